"""Core ATen beyond the element-wise operators: each is cut exactly, or freezes with its reason."""

from __future__ import annotations

import warnings

import pytest
import torch

from pruner import Plan, trace, verify
from pruner.structure import Network

from ..networks import shake
from .operator_table import EXACT, FROZEN, WIDTH, Call, Side


def trace_calls(calls: dict[str, Call]) -> tuple[Side, Network]:
    torch.manual_seed(0)
    rank = next(iter(calls.values())).rank
    groups = {call.rank for call in calls.values()}
    assert len(groups) == 1
    shape = (2, 3, *[4] * rank) if rank else (2, 4, 3)
    model = shake(Side(calls).double()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model, trace(model, (torch.randn(shape, dtype=torch.float64),), step=1)


def group_by_rank(calls: dict[str, Call]) -> list[dict[str, Call]]:
    ranks = sorted({call.rank for call in calls.values()})
    return [{n: c for n, c in calls.items() if c.rank == rank} for rank in ranks]


@pytest.mark.parametrize("kind", EXACT)
def test_channels_around_an_operator_are_cut_exactly(kind: str) -> None:
    for calls in group_by_rank(EXACT[kind]):
        model, net = trace_calls(calls)
        assert not net.axis_map.unsupported
        written = {slot.tensor for dim in net.dims.values() for slot in dim.slots}
        held = [name for i, name in enumerate(calls) if f"each.{i}.a.weight" not in written]
        assert not held, (held, net.frozen)
        half = {dim.name: tuple(range(0, dim.size, 2)) for dim in net.dims.values()}
        for plan in (Plan.random(net, macs=0.6, seed=0), Plan(half, {})):
            assert verify(model, net, plan) < 1e-10


def test_what_freezes_says_why() -> None:
    _, net = trace_calls({name: call for name, (call, _) in FROZEN.items()})
    reasons = {
        i: {frozen.reason for frozen in net.frozen if f"each.{i}.a.weight" in frozen.tensors}
        for i in range(len(FROZEN))
    }
    for i, (name, (_, reason)) in enumerate(FROZEN.items()):
        assert reason in reasons[i], (name, reasons[i])
    assert not any(slot.axis == 0 and slot.tensor.endswith("a.weight") and dim.size == WIDTH
                   for dim in net.dims.values() for slot in dim.slots)  # fmt: skip
