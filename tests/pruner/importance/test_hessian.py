"""Second-order scores against second differences of the loss."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from pruner.errors import PrunerError
from pruner.importance.base import Subject, select_gates
from pruner.importance.hessian import Hessian
from pruner.importance.score import score
from pruner.structure.trace import trace

from ..networks import Attention, Residual, shake

STEP = 1e-4


def _traced(kind):
    torch.manual_seed(0)
    model = shake(kind()).double()
    net = trace(model, (torch.zeros(2, 3, 8, 8, dtype=torch.float64),), step=1)
    dice = torch.Generator().manual_seed(1)
    batches = [
        (
            torch.randn(8, 3, 8, 8, generator=dice, dtype=torch.float64),
            torch.randint(0, 5, (8,), generator=dice),
        )
        for _ in range(2)
    ]
    return net, batches


def _second_difference(net, dim, index, batches) -> float:
    """Half the loss's second derivative by the gate of one index."""
    slots = select_gates(Subject.wrap(net.module), dim)

    def loss(gate: float) -> float:
        module = copy.deepcopy(net.module)
        tensors = dict(module.named_parameters())
        with torch.no_grad():
            for slot in slots:
                places = torch.from_numpy(np.flatnonzero(slot.owner == index))
                rows = tensors[slot.tensor].index_select(slot.axis, places) * gate
                tensors[slot.tensor].index_copy_(slot.axis, places, rows)
            return float(np.mean([float(cross_entropy(module(x), y)) for x, y in batches]))

    return (loss(1 + STEP) - 2 * loss(1.0) + loss(1 - STEP)) / STEP**2 / 2


@pytest.mark.parametrize("kind", [Residual, Attention])
def test_scores_are_half_the_second_derivative_by_the_gate(kind):
    net, batches = _traced(kind)
    found = Hessian(draws=150).score(net, batches, cross_entropy)
    truth = {
        name: np.array(
            [max(_second_difference(net, dim, i, batches), 0.0) for i in range(dim.size)]
        )
        for name, dim in net.dims.items()
    }
    scale = max(values.max() for values in truth.values())
    estimated = np.concatenate([found.total(name) for name in truth])
    every = np.concatenate(list(truth.values()))
    # What the estimate is off by comes from the indices that share a direction, and so is small
    # next to the largest score, not next to each.
    assert np.allclose(estimated, every, atol=0.1 * scale)
    assert np.corrcoef(estimated, every)[0, 1] > 0.98


def test_they_are_repeatable_and_shared_out_among_cells():
    net, batches = _traced(Residual)
    first, second = (score(net, batches, cross_entropy, "hessian") for _ in range(2))
    for name, dim in net.dims.items():
        assert first.total(name).shape == (dim.size,) and first.total(name).max() > 0
        assert np.array_equal(first.total(name), second.total(name))
    assert any(len(parts) > 1 for parts in first.parts.values())


def test_misuse_is_told():
    net, batches = _traced(Residual)
    with pytest.raises(PrunerError, match="needs a loss"):
        score(net, batches, None, "hessian")
    with pytest.raises(PrunerError, match="empty"):
        score(net, [], cross_entropy, "hessian")
