"""Rows of one modality put into another's, as networks of images and text do."""

import pytest
import torch
from torch import Tensor, nn

from pruner import Plan, trace, verify


class Merged(nn.Module):
    """Features of an image in the places of a text that are kept for them."""

    def __init__(self, mask: str) -> None:
        super().__init__()
        self.embed, self.project = nn.Embedding(12, 16), nn.Linear(6, 16)
        self.fold, self.head, self.mask = nn.Linear(16, 16), nn.Linear(16, 3), mask

    def forward(self, ids: Tensor, image: Tensor) -> Tensor:
        words, features = self.embed(ids), self.project(image)
        mask = (ids == 11).unsqueeze(-1)
        if self.mask == "expanded":
            mask = mask.expand_as(words)
        if self.mask == "expanded to sizes":
            mask = mask.expand(-1, -1, words.shape[-1]).to(words.device)
        if self.mask == "by position":
            mask = mask & (words > 0)
        merged = words.masked_scatter(mask, features)
        return self.head(self.fold(merged).relu())


@pytest.mark.parametrize("mask", ["broadcast", "expanded", "expanded to sizes", "by position"])
def test_rows_are_cut_together(mask: str) -> None:
    torch.manual_seed(0)
    ids = torch.tensor([[11, 11, 3, 4, 5], [1, 11, 11, 2, 6]])
    image = torch.randn(2, 2, 6)
    model = Merged(mask).eval()
    net = trace(model, (ids, image))
    written = {slot.tensor for dim in net.dims.values() for slot in dim.slots}
    assert ("project.weight" in written) == (mask != "by position")
    for seed in range(2):
        assert verify(model, net, Plan.random(net, macs=0.6, seed=seed)) < 1e-5
