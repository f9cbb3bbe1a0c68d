"""Numbers that a network reads out of a tensor beside its weights are numbers of the graph."""

import copy

import pytest
import torch
from torch import Tensor, nn

import pruner


class Strides(nn.Module):
    """Points of two maps, a column of each one's stride beside them, as detectors have them."""

    def __init__(self, saved: bool, reckon: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 8, 3, 2, 1)
        self.head = nn.Conv2d(8, 4, 1)
        self.reckon = reckon
        strides = torch.tensor([2.0, 4.0])
        if saved:
            self.register_buffer("strides", strides)
        else:
            self.strides = strides

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).relu()
        b = self.head(self.b(a))
        stride: float = self.strides[1].item()
        if self.reckon:
            stride = stride * 2 + 1
        column = torch.full((b.shape[2] * b.shape[3], 1), stride, dtype=b.dtype, device=b.device)
        return b.flatten(2).transpose(1, 2) * column


@pytest.mark.parametrize("reckon", [False, True])
def test_a_constant_asked_for_a_number_moves_to_another_device(reckon: bool) -> None:
    model, x = Strides(saved=False, reckon=reckon).eval(), torch.randn(2, 3, 16, 16)
    net = pruner.trace(model, (x,))
    assert not net.axis_map.unsupported
    plan = pruner.Plan.random(net, 0.5)
    assert pruner.verify(model, net, plan) < 1e-5
    assert torch.equal(net.module(x), model(x))
    small = copy.deepcopy(pruner.apply(net, plan)).to("meta")
    assert small(x.to("meta")).shape == (2, 16, 4)


def test_a_saved_buffer_asked_for_a_number_is_read_each_time() -> None:
    model, x = Strides(saved=True, reckon=False).eval(), torch.randn(2, 3, 16, 16)
    net = pruner.trace(model, (x,))
    module = net.module
    dense = {name: value.clone() for name, value in model.state_dict().items()}
    dense["strides"] *= 3
    module.load_state_dict(dense)
    model.load_state_dict(dense)
    torch.testing.assert_close(module(x), model(x))
