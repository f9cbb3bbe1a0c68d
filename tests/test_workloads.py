"""Each workload network goes the whole way of a user; faults of others' kinds are named."""

from __future__ import annotations

import pytest
import torch

import pruner

pytest.importorskip("torchvision")
from examples.workloads.examine import examine

LEAST = {
    "depth_completion": 0.95,
    "siamtol": 0.95,
    "point_tracking": 0.95,
    "region_selection": 0.95,
    "mapnet": 0.95,
    "multiview": 0.95,
    "ssd": 0.93,
}
"""The share of the parameters that must be prunable; what is not, is frozen by a reason below."""


@pytest.mark.parametrize("name", sorted(LEAST))
def test_a_workload_is_pruned_the_whole_way(name):
    result = examine(name)
    assert result.difference < 1e-5
    assert result.loaded < 1e-6
    assert result.status == "OPTIMAL"
    assert result.trained == 1
    assert isinstance(result.onnx, float) and result.onnx < 1e-4
    assert result.prunable >= LEAST[name]
    assert all(reason for reason in result.frozen)


class Extremes(torch.nn.Module):
    """Reads the largest channel of every position, or also which one it is."""

    def __init__(self, reads_position: bool) -> None:
        super().__init__()
        self.reads_position = reads_position
        self.write = torch.nn.Conv2d(3, 16, 3)
        self.read = torch.nn.Conv2d(17, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.write(x)
        value, position = x.max(1, keepdim=True)
        return self.read(torch.cat([x, value * position if self.reads_position else value], 1))


def test_the_largest_of_all_channels_is_that_of_the_kept_ones():
    images = (torch.randn(2, 3, 8, 8),)
    model = Extremes(False).eval()
    net = pruner.trace(model, images)
    plan = pruner.Plan({"write": tuple(range(1, 12))}, {})
    assert pruner.verify(model, net, plan) < 1e-6
    assert not pruner.trace(Extremes(True).eval(), images).dims
