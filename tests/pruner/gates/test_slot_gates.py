"""Gates on single parameters, and the scores that are their derivatives."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from pruner.gates import differentiate_gates, fold_positions, gate_parameter, spread_gates
from pruner.importance.base import Subject, select_gates
from pruner.importance.score import score

from ..small import hand_traced, random_batches


def test_gates_go_to_the_positions_of_their_indices_and_derivatives_come_back():
    owner = np.array([1, -1, 0, 1])
    gates = torch.tensor([0.5, 3.0], dtype=torch.float64, requires_grad=True)
    assert spread_gates(owner, gates).tolist() == [3.0, 1.0, 0.5, 3.0]
    assert spread_gates(owner, gates, others=0.0).tolist() == [3.0, 0.0, 0.5, 3.0]

    parameter = torch.randn(3, 4, dtype=torch.float64)
    weight = torch.randn_like(parameter)
    gated = gate_parameter(parameter, 1, spread_gates(owner, gates))
    (expected,) = torch.autograd.grad((gated * weight).sum(), gates)
    found = fold_positions(differentiate_gates(parameter, weight, 1)[None], owner, 2)[0]
    assert torch.allclose(found, expected)
    assert not differentiate_gates(parameter, None, 1).any()


def test_scores_are_to_the_bit_sums_of_weight_times_gradient():
    net, batches = hand_traced(), random_batches(1)
    subject = Subject.wrap(net.module)
    subject.update_gradients(cross_entropy(*subject.run(batches[0])))
    found = score(net, batches, cross_entropy, "taylor")
    for name, dim in net.dims.items():
        parts: dict[str | None, torch.Tensor] = {}
        for slot in select_gates(subject, dim):
            product = subject.parameters[slot.tensor] * subject.gradients[slot.tensor]
            values = product.detach().double().movedim(slot.axis, 0)
            values = values.flatten(1).sum(1) if values.ndim > 1 else values
            folded = torch.zeros(dim.size, dtype=torch.float64)
            folded.index_add_(0, torch.from_numpy(slot.owner), values)
            parts[slot.cell] = parts.get(slot.cell, 0) + folded
        rows = torch.stack(list(parts.values()))
        share = rows.abs() / rows.abs().sum(0)
        rise = rows.sum(0).abs()
        for cell, row in zip(parts, share * rise):
            assert np.array_equal(found.parts[name][cell], row.numpy())
