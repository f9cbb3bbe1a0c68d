"""From a profile to cells: every step's time goes to exactly one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .engine import Profile, Step
from .timing import LEAST_QUIET


@dataclass(frozen=True)
class Share:
    """A cell's part of a profile. kernels: the number of steps that are its own or serve it."""

    kernel_ms: float
    spread_ms: float
    kernels: int


def attribute(
    profile: Profile, cell_of: Mapping[str, str], watch: bool = False
) -> dict[str, Share]:
    """Cell -> its share. The shares add up to all steps of the profile.

    A step belongs to the cell of the first of its operators that has one. Steps that have none
    (changes of layout, constants, reshapes between cells) go to the neighbour in the order of
    execution that they serve. Cells that the engine fused into others are not in the result.

    watch
        Whether the runs were on one thread, so that disturbed ones can be told and left out.
    """
    owners = step_owners(profile.steps, cell_of)
    by_cell: dict[str, list[int]] = {}
    for index, owner in enumerate(owners):
        if owner is not None:
            by_cell.setdefault(owner, []).append(index)
    quiet = np.array([not (watch and lap.disturbed) for lap in profile.laps])
    # Where no run was quiet: a kernel is short, and at least a quarter of its runs were.
    middle = (0.25, 0.75) if quiet.sum() >= LEAST_QUIET else (0.1, 0.4)
    rows = profile.ms[quiet] if quiet.sum() >= LEAST_QUIET else profile.ms
    shares = {}
    for cell, columns in by_cell.items():
        latency = sum(_middle_mean(rows[:, column], *middle) for column in columns)
        q1, q3 = np.percentile(rows[:, columns].sum(axis=1), [25, 75])
        shares[cell] = Share(latency, float(q3 - q1), len(columns))
    return shares


def step_owners(steps: Sequence[Step], cell_of: Mapping[str, str]) -> list[str | None]:
    """The cell of each step, in order; ``None`` for all where no step belongs to any cell."""
    own = [next((cell_of[o] for o in s.operators if o in cell_of), None) for s in steps]
    towards = [s.towards for s in steps]
    owners: list[str | None] = []
    for index, owner in enumerate(own):
        if owner is None:
            after = next((o for o in own[index + 1 :] if o is not None), None)
            before = next((o for o in reversed(own[:index]) if o is not None), None)
            owner = (after or before) if towards[index] > 0 else (before or after)
        owners.append(owner)
    return owners


def _middle_mean(values: NDArray[np.float64], low: float, high: float) -> float:
    """Mean between two quantiles: as robust as a median, finer than the profiler's microsecond."""
    ordered = np.sort(values)
    first, last = int(low * len(ordered)), int(np.ceil(high * len(ordered)))
    return float(ordered[first : max(last, first + 1)].mean())
