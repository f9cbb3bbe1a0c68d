"""The elements that a Plan keeps are those that the cut network has."""

from __future__ import annotations

import pytest
import torch

import pruner
from pruner.surgery import find_kept_elements
from pruner.surgery.apply import cut_network

from ..networks import Attention, Dense, Plain, Residual
from ..problem.test_constraints import Nested
from ..problem.test_formulate import traced


@pytest.mark.parametrize("kind", [Residual, Plain, Dense, Attention, Nested])
def test_kept_elements_are_those_of_the_cut_network(kind) -> None:
    net = traced(kind, 2)
    dropped = 0
    for seed in range(6):
        plan = pruner.Plan.random(net, 0.5, seed, drop_blocks=0.4)
        cut, kept = cut_network(net, plan).tensors, find_kept_elements(net, plan)
        read = {str(n.target) for n in net.program.graph.nodes if n.op == "get_attr"}
        assert kept.keys() == read
        for name, mask in kept.items():
            tensor = net.program.tensors[name]
            assert mask.shape == tensor.shape and mask.dtype == torch.bool
            if name in cut:
                assert torch.equal(tensor[mask], cut[name].flatten()), name
            else:
                dropped += 1
                assert not mask.any(), name
    assert dropped or not net.blocks
