"""Shapes of recurrent layers at once, where torch unrolls them step by step for shapes alone."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from .torch_internals import replace_decomposition

RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


@contextmanager
def quick_recurrent_shapes() -> Iterator[None]:
    """Let recurrent layers on fake tensors give empty results of the right shape meanwhile.

    What ``torch.export`` writes down of a layer is the one operator; its steps, thousands in a
    network of long sequences, are computed for their shapes and thrown away.
    """
    with ExitStack() as stack:
        for name in RECURRENT:
            operator = getattr(torch.ops.aten, name).input
            stack.enter_context(replace_decomposition(operator, _make_results))
        yield


def _make_results(
    x: Tensor, state: Tensor | Sequence[Tensor], params: Sequence[Tensor], has_biases: bool,
    num_layers: int, dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """Return (y [steps, batch, directions * width], *new states), y transposed if batch_first."""
    states = [state] if isinstance(state, Tensor) else list(state)
    width = states[0].shape[-1] * (2 if bidirectional else 1)
    steps = x.transpose(0, 1) if batch_first else x
    y = steps.new_empty((*steps.shape[:-1], width))
    return (y.transpose(0, 1) if batch_first else y, *(torch.empty_like(one) for one in states))
