"""A network's latency by a table: predicted for one structure, and tabulated for all."""

from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from latency_tables import LatencyTable, LayerSpec, network_digest
from solver import Table

from ..structure import Network, keep_variable
from .objective import gate
from .widths import WidthBuilder, join_scopes


def predict(
    net: Network,
    table: LatencyTable,
    sizes: Mapping[str, int] | None = None,
    dropped: tuple[str, ...] = (),
) -> float:
    """Predict the latency of one structure in milliseconds (nothing named: the dense network)."""
    widths = net.cell_sizes(sizes or {}, dropped)
    cells = (
        (cell.spec_at(dropped), widths[cell.name]) for cell in net.cells() if cell.name in widths
    )
    return table.predict_total(cells, network_digest(net))


def sum_limit_ms(net: Network, table: LatencyTable, limit_ms: float) -> float:
    """Return the sum of layers at which a network takes so many milliseconds as a whole."""
    # A user's table by formula may know the former name only.
    calibrate = getattr(table, "calibration", None) or table.context
    return float(calibrate(net).sum_ms(limit_ms))


def tabulate_latencies(
    net: Network, table: LatencyTable, builder: WidthBuilder, resource: str, network_ms: float
) -> Iterator[Table]:
    """Yield a table a cell, its latency in a network that takes network_ms, and the overhead."""

    @cache  # Blocks repeat: the same layer at the same widths is predicted once
    def predict_rows(spec: LayerSpec, rows: tuple[tuple[int, ...], ...]) -> NDArray[np.float64]:
        return table.predict(spec, np.array(rows), network_ms)

    for located in net.located:
        cell = located.cell
        widths = [builder.width(axis) for axis in located.widths]
        scope = join_scopes(widths)
        grids = np.broadcast_arrays(*(width.align(scope) for width in widths))
        rows = np.stack([grid.ravel() for grid in grids], axis=1)
        unique, place = np.unique(rows, axis=0, return_inverse=True)
        once = tuple(map(tuple, unique.tolist()))
        shape = grids[0].shape
        if not scope and not located.blocks:  # nothing to choose: a table over the one option
            scope, shape = builder.add_network(), (1,)
        cost = predict_rows(cell.spec, once)[place.ravel()].reshape(shape)
        if cell.otherwise is not None:
            without = len(cell.without)
            rest = predict_rows(cell.otherwise, once)[place.ravel()].reshape(shape)
            scope = (*map(keep_variable, cell.without), *scope)
            cost = np.broadcast_to(cost, (2,) * without + shape).copy()
            cost[(0,) * without] = rest
        gates, gated = gate(located.blocks, cost)
        yield Table(cell.name, (*gates, *scope), None, {resource: gated})
    if table.overhead_ms:
        overhead = {resource: np.array([table.overhead_ms])}
        yield Table("overhead", builder.add_network(), None, overhead)
