"""Which probes to measure: space-filling over a network's Dims, the same from the same seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from .source import ProbeSource


@dataclass(frozen=True)
class PlannedProbe:
    """sizes: Dim -> size, of the Dims that are cut; empty for the uncut network."""

    sizes: Mapping[str, int]
    dropped: tuple[str, ...] = ()


def network_digest(source: ProbeSource) -> str:
    """Equal for networks with the same cells and Dims, whatever their weights and name."""
    cells = [(c.name, c.spec.to_json(), sorted(c.dims), c.dense_sizes) for c in source.cells()]
    sizes = {name: list(options) for name, options in source.sizes().items()}
    text = json.dumps([cells, sizes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_DROPPING = 3  # one probe in so many drops blocks
_MOST_DROPPED = 0.6
_EXTREME = 4  # one probe in so many is made of extremes
_DRAWS = 16  # of which the one is taken that brings most pairs of Dims together
_LEAST_WHOLE, _MOST_WHOLE = 0.15, 0.85  # the share of its Dims that are not cut
_LOWEST = 0.3  # mean share of a width that a probe may have


def plan_probes(
    sizes: Mapping[str, Sequence[int]], count: int, seed: int, blocks: Sequence[str] = ()
) -> tuple[PlannedProbe, ...]:
    """The uncut network, the smallest one, and a Sobol sequence over the Dims.

    A probe has a level, which its widths vary about, so that the totals cover the range from the
    smallest to the uncut network evenly: independent widths alone would all add up to about a
    quarter of it. Every third probe drops some blocks too, since a layer's time changes with its
    neighbours. Every fourth is made of extremes, some Dims whole and the others cut to little: so
    are the structures that a solver picks, and there a table should not have to extrapolate.
    Networks with few structures get fewer probes.
    """
    names = sorted(sizes)
    free = [name for name in names if len(sizes[name]) > 1]
    uncut: dict[str, int] = {}
    smallest = {name: sizes[name][0] for name in free}
    planned = [PlannedProbe(uncut)]
    seen = {_key(uncut)}
    if free and count > 1:
        planned.append(PlannedProbe(smallest))
        seen.add(_key(smallest))
    # A sequence for each kind: every fourth point of one lies in a quarter of the range.
    points, extremes = (
        qmc.Sobol(len(free) + 1, scramble=True, rng=np.random.default_rng(rng))
        for rng in (seed, [seed, 1])
    )
    random = np.random.default_rng(seed)
    met = np.zeros((len(free), len(free)), bool)
    missed = 0
    while free and len(planned) < count and missed < 64:
        if (len(planned) + missed) % _EXTREME == _EXTREME - 1:
            drawn = extremes.random(_DRAWS)
            drawn[:, 0] = drawn[0, 0]
            candidates = [_extreme(point, sizes, free) for point in drawn]
            chosen = max(candidates, key=lambda c: np.sum(_met(c, free) & ~met))
            met |= _met(chosen, free)
        else:
            chosen = _spread(points.random(1)[0], sizes, free)
        if _key(chosen) in seen:
            missed += 1  # few structures, and all of them drawn
            continue
        seen.add(_key(chosen))
        dropped: tuple[str, ...] = ()
        if blocks and len(planned) % _DROPPING == 2:
            share = random.uniform(min(1 / len(blocks), _MOST_DROPPED), _MOST_DROPPED)
            dropped = tuple(name for name in blocks if random.uniform() < share)
        planned.append(PlannedProbe(chosen, dropped))
    return tuple(planned)


def _spread(
    point: NDArray[np.float64], sizes: Mapping[str, Sequence[int]], free: Sequence[str]
) -> dict[str, int]:
    # ``level`` is the power's mean over ``own``; latency goes with the product of two widths, and
    # with these levels the totals come out about evenly spread.
    level = _LOWEST + (1 - _LOWEST) * point[0] ** 0.8
    chosen = {}
    for name, own in zip(free, point[1:], strict=True):
        options = sizes[name]
        target = own ** ((1 - level) / level) * options[-1]
        size = min(options, key=lambda option: abs(option - target))
        if size != options[-1]:
            chosen[name] = size
    return chosen


def _extreme(
    point: NDArray[np.float64], sizes: Mapping[str, Sequence[int]], free: Sequence[str]
) -> dict[str, int]:
    # The first coordinate says how many Dims are whole; the rest of a Dim's own, how small it is:
    # from the smallest size to a quarter of the largest, in equal ratios.
    whole = _LEAST_WHOLE + (_MOST_WHOLE - _LEAST_WHOLE) * point[0]
    chosen = {}
    for name, own in zip(free, point[1:], strict=True):
        options = sizes[name]
        if own < whole:
            continue
        low, high = options[0], max(options[0], options[-1] / 4)
        target = low * (high / low) ** ((own - whole) / (1 - whole))
        size = min(options, key=lambda option: abs(option - target))
        if size != options[-1]:
            chosen[name] = size
    return chosen


def _met(chosen: Mapping[str, int], free: Sequence[str]) -> NDArray[np.bool_]:
    """[i, j]: whether Dim i is whole and Dim j is cut."""
    cut = np.array([name in chosen for name in free])
    return ~cut[:, None] & cut[None, :]


def _key(sizes: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(sizes.items()))
