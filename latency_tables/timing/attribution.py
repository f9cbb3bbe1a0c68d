"""From a profile to cells: every step's time goes to exactly one cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..engines import Profile, Step
from .clock import LEAST_QUIET


@dataclass(frozen=True)
class Share:
    """A cell's part of a profile; ``kernels``: how many steps are its own or serve it."""

    kernel_ms: float
    spread_ms: float
    kernels: int


def attribute_profile(
    profile: Profile,
    cell_of: Mapping[str, str],
    watch: bool = False,
    work: Mapping[str, float] | None = None,
) -> dict[str, Share]:
    """Share a profile among its cells; the shares add up to all its steps.

    A step belongs to the cell of the first of its operators that has one. Steps that have none
    (changes of layout, constants, reshapes between cells) go to the neighbour in the order of
    execution that they serve. Cells that the engine fused into others are not in the result,
    unless ``work`` is given.

    Args:
        profile: Steps and their times.
        cell_of: Operator -> its cell (``Probe.cell_of``).
        watch: Whether the runs were on one thread, so that disturbed ones are told and left out.
        work: Cell -> its work, against the others'. The time of a kernel that stands for several
            cells (as a compiler's do) is then shared among its own cell and those that have no
            kernel of their own; a profile that names no cell is shared among all of them.
    """
    sharers = share_steps(profile.steps, cell_of, work)
    quiet = np.array([not (watch and lap.disturbed) for lap in profile.laps])
    # Where no run was quiet: a kernel is short, and at least a quarter of its runs were.
    middle = (0.25, 0.75) if quiet.sum() >= LEAST_QUIET else (0.1, 0.4)
    rows = profile.ms[quiet] if quiet.sum() >= LEAST_QUIET else profile.ms
    means = [_interquantile_mean(column, *middle) for column in rows.T]
    part = np.zeros((len(sharers), len({cell for own in sharers for cell in own})))
    cells: dict[str, int] = {}
    for step, own in enumerate(sharers):
        for cell, share in own.items():
            part[step, cells.setdefault(cell, len(cells))] = share
    shares = {}
    for cell, column in cells.items():
        q1, q3 = np.percentile(rows @ part[:, column], [25, 75])
        kernels = sum(1 for own in sharers if next(iter(own), None) == cell)
        latency = float(np.dot(means, part[:, column]))
        shares[cell] = Share(latency, float(q3 - q1), kernels)
    return shares


def share_steps(
    steps: Sequence[Step], cell_of: Mapping[str, str], work: Mapping[str, float] | None = None
) -> list[dict[str, float]]:
    """Map for each step the cells that share its time, its owner first, to shares (sum 1)."""
    owners = find_step_owners(steps, cell_of)
    work = work or {}
    if None in owners and work:  # all of them are None
        total = sum(work.values())
        return [{cell: own / total for cell, own in work.items()} for _ in steps]
    owning = set(owners)
    sharers: list[dict[str, float]] = []
    for step, owner in zip(steps, owners, strict=True):
        inside = {cell_of[o]: 0.0 for o in step.operators if o in cell_of}
        guests = [cell for cell in inside if cell not in owning and cell in work]
        if owner is None:
            sharers.append({})
        elif not guests:
            sharers.append({owner: 1.0})
        else:
            weights = {cell: work.get(cell, 0.0) for cell in (owner, *guests)}
            total = sum(weights.values())
            sharers.append({cell: weight / total for cell, weight in weights.items()})
    return sharers


def find_step_owners(steps: Sequence[Step], cell_of: Mapping[str, str]) -> list[str | None]:
    """Find the cell of each step, in order; all ``None`` where no step belongs to any cell."""
    own = [next((cell_of[o] for o in s.operators if o in cell_of), None) for s in steps]
    owners: list[str | None] = []
    for index, owner in enumerate(own):
        if owner is None:
            after = next((o for o in own[index + 1 :] if o is not None), None)
            before = next((o for o in reversed(own[:index]) if o is not None), None)
            owner = (after or before) if steps[index].towards > 0 else (before or after)
        owners.append(owner)
    return owners


def _interquantile_mean(values: NDArray[np.float64], low: float, high: float) -> float:
    """Average between two quantiles: robust as a median, finer than a profiler's microsecond."""
    ordered = np.sort(values)
    first, last = int(low * len(ordered)), int(np.ceil(high * len(ordered)))
    return float(ordered[first : max(last, first + 1)].mean())


def find_told_share(profile: Profile, cell_of: Mapping[str, str]) -> float:
    """Find the share of a profile's time that is told of one cell each; 0 where nothing is told.

    Not told is what names no operator of a cell, such as a delegate that runs half of a network as
    one, and what was fused of several cells, none of which has a kernel of its own. Changes of
    layout count for neither.
    """
    ms = np.median(profile.ms, axis=0) if len(profile.steps) else np.zeros(0)
    inside = [{cell_of[o] for o in step.operators if o in cell_of} for step in profile.steps]
    alone = {next(iter(own)) for own in inside if len(own) == 1}
    told = total = 0.0
    for step, own, own_ms in zip(profile.steps, inside, ms, strict=True):
        if own or step.towards < 0:
            total += float(own_ms)
            # What it shares with others is small where they have kernels of their own.
            told += float(own_ms) if own and len(own - alone) <= 1 else 0.0
    return told / total if total > 0 else 0.0
