"""Tracing compares the graph with the model once, and says where they part."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruner import trace
from pruner.errors import PrunerWarning


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 5)

    def read(self, x: Tensor) -> Tensor:
        return torch.relu(self.a(x))

    def forward(self, x: Tensor) -> Any:
        return self.b(self.read(x))


class _Branches(_Layer):
    """Does something else while it is traced."""

    def read(self, x: Tensor) -> Tensor:
        return super().read(x) * (1.0 if torch.compiler.is_exporting() else 1.1)


class _Random(_Layer):
    """Draws random numbers in evaluation too."""

    def read(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().read(x), 0.5, training=True)


class _Counts(_Layer):
    """Parts from itself: every call changes it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.ones(()))

    def read(self, x: Tensor) -> Tensor:
        self.count += 1
        return super().read(x) * self.count


class _Integers(_Layer):
    def forward(self, x: Tensor) -> Any:
        y = super().forward(x)
        return {"scores": y, "best": y.argmax(-1), "name": "x"}


def _trace_and_listen(model: nn.Module, *inputs: Any, **kwargs: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trace(model.eval(), inputs, kwargs)
    return [str(w.message) for w in caught if issubclass(w.category, PrunerWarning)]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (_Layer, ""),
        (_Integers, ""),
        (_Random, ""),
        (_Branches, "the example inputs the graph that was traced gives other numbers"),
    ],
)
def test_a_difference_is_told(kind: type[nn.Module], said: str) -> None:
    torch.manual_seed(0)
    told = [line for line in _trace_and_listen(kind(), torch.randn(3, 6)) if "numbers" in line]
    assert len(told) == bool(said)
    assert all(said in line for line in told)


def test_a_model_that_every_call_changes_is_left_alone() -> None:
    model = _Counts()
    assert not any("numbers" in line for line in _trace_and_listen(model, torch.randn(3, 6)))
    assert float(model.count) == 1


def test_zeros_at_padded_positions_are_the_fast_path_s() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[1, 3:] = True
    x = torch.randn(2, 5, 16)
    told = _trace_and_listen(nn.TransformerEncoder(layer, 1), x, src_key_padding_mask=mask)
    assert any("fast path" in line for line in told)
    assert torch.backends.mha.get_fastpath_enabled()
    assert not _trace_and_listen(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), x)
