"""Which planned probes a table does not need, since other networks have been measured."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..regression import Reading
from ..source import ProbeSource
from ..spec import LayerSpec
from ..timing import estimate_work
from .probe_design import PlannedProbe

# A network's own probes: enough for its calibration and its error, whatever else is known.
LEAST = 10
_NEAR = 0.5  # doublings of each width from a measured point
_THIN = 12  # points of a specification below which it is measured anew
_MISSING = 0.2  # share of a probe's work that may be unknown


def select_uncovered(
    planned: Sequence[PlannedProbe], source: ProbeSource, known: Sequence[Reading]
) -> tuple[PlannedProbe, ...]:
    """Select the probes to measure: the first ``LEAST``, and those with thinly covered layers.

    ``known`` are readings of other networks on the same device and in the same setting.
    """
    points: dict[LayerSpec, set[tuple[int, ...]]] = {}
    for reading in known:
        for cell in reading.cells:
            points.setdefault(cell.spec, set()).add(cell.sizes)
    covered = {
        spec: np.log2(np.array(sorted(own), dtype=np.float64))
        for spec, own in points.items()
        if len(own) >= _THIN
    }
    if not covered:
        return tuple(planned)
    return tuple(
        probe
        for index, probe in enumerate(planned)
        if index < LEAST or _share_uncovered(probe, source, covered) > _MISSING
    )


def _share_uncovered(
    probe: PlannedProbe, source: ProbeSource, covered: Mapping[LayerSpec, NDArray[np.float64]]
) -> float:
    """Compute the share of a probe's work in layers that no measured point is near of."""
    total = missing = 0.0
    specs = {cell.name: cell.spec for cell in source.cells()}
    for name, widths in source.cell_sizes(probe.sizes, probe.dropped).items():
        own = estimate_work(specs[name], widths)
        total += own
        near = covered.get(specs[name])
        point = np.log2(np.maximum(widths, 1))
        if near is None or np.abs(near - point).max(axis=1).min() > _NEAR:
            missing += own
    return missing / total if total else 0.0
