"""Which sizes of a Dim are worth choosing: those at which the measured staircase steps."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..source import ProbeSource
from ..spec import Cell, LayerSpec
from .table import LatencyTable

_NOTICEABLE = 0.005  # of the layers' latency: less is the table's own noise


def find_useful_sizes(table: LatencyTable, source: ProbeSource) -> dict[str, tuple[int, ...]]:
    """Find for every Dim the sizes, of those it may take, that no larger one matches in latency.

    A size within a step of the staircase costs what the top of the step costs, and keeps less.
    Judged by all layers that the Dim is a width of, the other Dims uncut and at half their size: a
    size that counts in either place stays. The uncut size always does.
    """
    options = source.sizes()
    half = {name: own[(len(own) - 1) // 2] for name, own in options.items()}
    cells = {cell.name: cell for cell in source.cells()}
    found = {}
    for dim, own in options.items():
        readers = {name: cell for name, cell in cells.items() if dim in cell.dims}
        kept = {own[-1]}
        for others in (dict[str, int](), half):
            ms = _sum_latencies(table, source, readers, others, dim, own)
            cheapest = float("inf")
            for size, cost in zip(own[::-1], ms[::-1].tolist(), strict=True):
                if cost < cheapest * (1 - _NOTICEABLE):
                    kept.add(size)
                    cheapest = cost
        found[dim] = tuple(sorted(kept))
    return found


def _sum_latencies(
    table: LatencyTable,
    source: ProbeSource,
    readers: Mapping[str, Cell],
    others: Mapping[str, int],
    dim: str,
    options: Sequence[int],
) -> NDArray[np.float64]:
    """Add up the readers' latency at each option of the Dim."""
    rows: dict[LayerSpec, list[tuple[int, ...]]] = {}
    indices: dict[LayerSpec, list[int]] = {}
    for index, size in enumerate(options):
        widths = source.cell_sizes({**others, dim: size})
        for name, cell in readers.items():
            rows.setdefault(cell.spec, []).append(tuple(widths[name]))
            indices.setdefault(cell.spec, []).append(index)
    total = np.zeros(len(options))
    for spec, sizes in rows.items():
        np.add.at(total, indices[spec], table.predict(spec, sizes))
    return total
