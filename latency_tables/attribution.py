"""From a profile to cells: every step's time goes to exactly one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .engine import Profile, Step


@dataclass(frozen=True)
class Share:
    """A cell's part of a profile. kernels: the number of steps that are its own or serve it."""

    kernel_ms: float
    spread_ms: float
    kernels: int


def attribute(profile: Profile, cell_of: Mapping[str, str]) -> dict[str, Share]:
    """Cell -> its share. The shares add up to all steps of the profile.

    A step belongs to the cell of the first of its operators that has one. Steps that have none
    (changes of layout, constants, reshapes between cells) go to the neighbour in the order of
    execution that they serve. Cells that the engine fused into others are not in the result.
    """
    owners = step_owners(profile.steps, cell_of)
    by_cell: dict[str, list[int]] = {}
    for index, owner in enumerate(owners):
        if owner is not None:
            by_cell.setdefault(owner, []).append(index)
    quiet = profile.total_ms <= np.percentile(profile.total_ms, 75)
    shares = {}
    for cell, columns in by_cell.items():
        times = profile.ms[quiet][:, columns].sum(axis=1)
        q1, q3 = np.percentile(times, [25, 75])
        shares[cell] = Share(_middle_mean(times), float(q3 - q1), len(columns))
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


def _middle_mean(values: NDArray[np.float64]) -> float:
    """Mean of the middle half: as robust as a median, finer than the profiler's microsecond."""
    ordered = np.sort(values)
    n = len(ordered)
    return float(ordered[n // 4 : n - n // 4].mean())
