"""Which probes to measure: space-filling over a network's Dims, the same from the same seed."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc


@dataclass(frozen=True)
class PlannedProbe:
    """A probe: sizes of the Dims that are cut (none: the uncut network), and dropped blocks."""

    sizes: Mapping[str, int]
    dropped: tuple[str, ...] = ()


_DROPPING = 3  # one probe in so many drops blocks
_MOST_DROPPED = 0.6
_EXTREME = 4  # one probe in so many is made of extremes
_MOST_DUPLICATES = 64
_CANDIDATES = 16  # of which the one is taken that brings most pairs of Dims together
_LEAST_WHOLE, _MOST_WHOLE = 0.15, 0.85  # the share of its Dims that are not cut
_LOWEST = 0.3  # mean share of a width that a probe may have


def plan_probes(
    sizes: Mapping[str, Sequence[int]], count: int, seed: int, blocks: Sequence[str] = ()
) -> tuple[PlannedProbe, ...]:
    """Plan the uncut network, the smallest one, and a Sobol sequence over the Dims.

    A probe has a level, which its widths vary about, so that the totals cover the range from the
    smallest to the uncut network evenly: independent widths alone would all add up to about a
    quarter of it. Every third probe drops some blocks too, since a layer's time changes with its
    neighbours. Every fourth is made of extremes, some Dims whole and the others cut to little: so
    are the structures that a solver picks, and there a table should not have to extrapolate.
    Networks with few structures get fewer probes than ``count``.
    """
    free = [name for name in sorted(sizes) if len(sizes[name]) > 1]
    planned = [PlannedProbe({})]
    if free and count > 1:
        planned.append(PlannedProbe({name: sizes[name][0] for name in free}))
    seen = {_key(probe.sizes) for probe in planned}
    proposals = _propose_sizes(sizes, free, seed, len(planned))
    random = np.random.default_rng(seed)
    duplicates = 0
    while free and len(planned) < count and duplicates < _MOST_DUPLICATES:
        chosen = next(proposals)
        if _key(chosen) in seen:
            duplicates += 1  # few structures, and all of them planned
            continue
        seen.add(_key(chosen))
        dropped: tuple[str, ...] = ()
        if blocks and len(planned) % _DROPPING == 2:
            share = random.uniform(min(1 / len(blocks), _MOST_DROPPED), _MOST_DROPPED)
            dropped = tuple(name for name in blocks if random.uniform() < share)
        planned.append(PlannedProbe(chosen, dropped))
    return tuple(planned)


def _propose_sizes(
    sizes: Mapping[str, Sequence[int]], free: Sequence[str], seed: int, start: int
) -> Iterator[dict[str, int]]:
    """Generate widths without end; every fourth is made of extremes."""
    # A sequence for each kind: every fourth point of one lies in a quarter of the range.
    points, extremes = (
        qmc.Sobol(len(free) + 1, scramble=True, rng=np.random.default_rng(rng))
        for rng in (seed, [seed, 1])
    )
    covered = np.zeros((len(free), len(free)), bool)
    for index in itertools.count(start):
        if index % _EXTREME == _EXTREME - 1:
            batch = extremes.random(_CANDIDATES)
            batch[:, 0] = batch[0, 0]
            candidates = [_choose_extremes(point, sizes, free) for point in batch]
            chosen = max(candidates, key=lambda c: np.sum(_mark_pairs(c, free) & ~covered))
            covered |= _mark_pairs(chosen, free)
            yield chosen
        else:
            yield _choose_level(points.random(1)[0], sizes, free)


def _choose_level(
    point: NDArray[np.float64], sizes: Mapping[str, Sequence[int]], free: Sequence[str]
) -> dict[str, int]:
    """Choose widths that vary around one level."""
    # ``level`` is the power's mean over ``own``; latency goes with the product of two widths, and
    # with these levels the totals come out about evenly spread.
    level = _LOWEST + (1 - _LOWEST) * point[0] ** 0.8
    targets = {
        name: own ** ((1 - level) / level) * sizes[name][-1]
        for name, own in zip(free, point[1:], strict=True)
    }
    return _snap(targets, sizes)


def _choose_extremes(
    point: NDArray[np.float64], sizes: Mapping[str, Sequence[int]], free: Sequence[str]
) -> dict[str, int]:
    """Choose some Dims whole and the others small."""
    # The first coordinate says how many Dims are whole; the rest of a Dim's own, how small it is:
    # from the smallest size to a quarter of the largest, in equal ratios.
    whole = _LEAST_WHOLE + (_MOST_WHOLE - _LEAST_WHOLE) * point[0]
    targets = {}
    for name, own in zip(free, point[1:], strict=True):
        if own >= whole:
            low, high = sizes[name][0], max(sizes[name][0], sizes[name][-1] / 4)
            targets[name] = low * (high / low) ** ((own - whole) / (1 - whole))
    return _snap(targets, sizes)


def _snap(targets: Mapping[str, float], sizes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Map Dims to the allowed sizes nearest to their targets, without those that stay whole."""
    nearest = {name: min(sizes[name], key=lambda s: abs(s - t)) for name, t in targets.items()}
    return {name: size for name, size in nearest.items() if size != sizes[name][-1]}


def _mark_pairs(chosen: Mapping[str, int], free: Sequence[str]) -> NDArray[np.bool_]:
    """Mark at [i, j] whether Dim i is whole and Dim j is cut."""
    cut = np.array([name in chosen for name in free])
    return ~cut[:, None] & cut[None, :]


def _key(sizes: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(sizes.items()))
