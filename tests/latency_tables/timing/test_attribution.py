"""Every step of a profile goes to the cells that it is for."""

from __future__ import annotations

import numpy as np

from latency_tables.engines import Lap, Profile, Step
from latency_tables.timing.attribution import (
    attribute_profile,
    find_step_owners,
    find_told_share,
    share_steps,
)


def test_made_up_steps_go_to_the_neighbour_that_they_serve():
    steps = [
        Step("ReorderInput", (), +1), Step("a/x", ("a",)), Step("ReorderOutput", (), -1),
        Step("unowned/x", ("unowned",)), Step("b/x", ("b",)),
    ]  # fmt: skip
    owners = find_step_owners(steps, {"a": "A", "b": "B"})
    assert owners == ["A", "A", "A", "A", "B"]
    ms = np.array([[1.0, 2, 3, 4, 5]] * 8)
    shares = attribute_profile(Profile(steps, ms, [Lap(15, 15)] * 8), {"a": "A", "b": "B"})
    assert (shares["A"].kernel_ms, shares["A"].kernels) == (10, 4)
    assert (shares["B"].kernel_ms, shares["B"].kernels) == (5, 1)


def test_disturbed_runs_of_a_profile_are_left_out():
    ms = np.array([[1.0]] * 8 + [[9.0]] * 8)
    laps = [Lap(1, 1)] * 8 + [Lap(9, 1)] * 8
    profile = Profile([Step("a/x", ("a",))], ms, laps)
    assert attribute_profile(profile, {"a": "A"}, watch=True)["A"].kernel_ms == 1.0


def test_a_kernel_of_several_cells_is_shared_by_their_work():
    cell_of = {"a": "A", "b": "B", "c": "C", "relu": "C"}
    steps = [Step("a+b", ("a", "b")), Step("b+c", ("c",)), Step("c+relu", ("a", "relu"))]
    sharers = share_steps(steps, cell_of, {"A": 1.0, "B": 3.0, "C": 5.0})
    # B has no kernel of its own; C has one, so its ReLU within A's costs it nothing.
    assert sharers == [{"A": 0.25, "B": 0.75}, {"C": 1.0}, {"A": 1.0}]
    assert share_steps(steps, cell_of)[0] == {"A": 1.0}
    ms = np.array([[4.0, 5.0, 1.0]] * 8)
    shares = attribute_profile(
        Profile(steps, ms, [Lap(10, 10)] * 8), cell_of, work={"A": 1.0, "B": 3.0, "C": 5.0}
    )
    assert {cell: share.kernel_ms for cell, share in shares.items()} == {"A": 2, "B": 3, "C": 5}
    assert {cell: share.kernels for cell, share in shares.items()} == {"A": 2, "B": 0, "C": 1}


def test_the_share_of_a_profile_that_is_told_of_one_cell_each():
    cell_of = {"conv": "c", "act": "c", "pool": "p", "fc": "f", "mul": "m"}

    def find(*rows: tuple[tuple[str, ...], float, int]) -> float:
        steps = [Step(str(i), operators, towards) for i, (operators, _, towards) in enumerate(rows)]
        ms = np.array([[ms for _, ms, _ in rows]] * 3)
        return find_told_share(Profile(steps, ms, [Lap(1.0, 1.0)] * 3), cell_of)

    assert find((("conv", "act"), 3.0, -1), (("pool",), 1.0, -1)) == 1.0
    assert find((("conv",), 1.0, -1), ((), 3.0, -1)) == 0.25  # a delegate runs the rest
    assert find((("conv",), 1.0, -1), ((), 3.0, +1)) == 1.0  # a change of layout
    # Two cells in one kernel, of which neither has one of its own; a guest among its owner's.
    assert find((("conv", "pool"), 3.0, -1), (("fc",), 1.0, -1)) == 0.25
    assert find((("conv", "pool"), 3.0, -1), (("pool",), 1.0, -1)) == 1.0
    assert find() == 0.0
    none = Profile([], np.zeros((1, 0)), [Lap(1.0, 1.0)])
    assert find_told_share(none, cell_of) == 0.0
