"""Writes through views become values: what the rebuilt network computes is what the model does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import pruner.graph.functionalize as functionalize
from pruner.graph import capture_program, materialize


class _Writing(nn.Module):
    """A linear layer and a function that writes."""

    def __init__(self, write: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.write = nn.Linear(6, 6), write

    def forward(self, x: Tensor) -> Tensor:
        return self.write(self.a(x))


def _fill_windows(x: Tensor) -> Tensor:
    mask = x.new_zeros((4, 6))
    for i, part in enumerate((slice(0, -2), slice(-2, None))):
        mask[part, 1:4] = i + 1
    return x + mask


def _add_to_slice(x: Tensor) -> Tensor:
    before, view = x * 2, x[:, 1:, 2:]
    x[:, 1:, 2:] += 3
    return x * before + view.sum()


def _write_transposed(x: Tensor) -> Tensor:
    view = x.transpose(1, 2)
    view[:, 0].mul_(2)
    view[:, :, 1] = 5
    return x + view.transpose(1, 2)


def _write_one_part(x: Tensor) -> Tensor:
    first, second = x.unbind(1)[:2]
    first.add_(1)
    return x + second[:, None] * first[:, None]


def _write_twice(x: Tensor) -> Tensor:
    y, z = x[..., :3], x[..., 2:5]
    y.relu_()
    w = z + 1
    z.zero_()
    return torch.cat([y, w, x], -1)


@pytest.mark.parametrize(
    "write", [_fill_windows, _add_to_slice, _write_transposed, _write_one_part, _write_twice]
)
def test_rebuilt_network_computes_what_writes_leave(write: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model, x = _Writing(write).eval(), torch.randn(3, 4, 6)
    rebuilt = materialize(capture_program(model, (x,)))
    with torch.no_grad():
        assert torch.equal(rebuilt(x), model(x))


def test_plain_views_need_no_second_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr(functionalize, "_trace_again", refuse)
    for write in (_fill_windows, _add_to_slice, _write_transposed):
        capture_program(_Writing(write).eval(), (torch.randn(3, 4, 6),))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_not_unrolled(kind: type[nn.RNNBase]) -> None:
    model = kind(4, 6, 2, bidirectional=True, batch_first=True).eval()
    x = torch.randn(3, 5, 4)
    rebuilt = materialize(capture_program(model, (x,)))
    with torch.no_grad():
        assert torch.allclose(rebuilt(x)[0], model(x)[0])
    torch.export.export(model, (x,), strict=False).module()(x)  # torch's own is as it was
