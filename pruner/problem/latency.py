"""A network's latency by a table: predicted for one structure, and tabulated for all."""

from collections.abc import Iterator, Mapping, Sequence

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
    known: dict[tuple[LayerSpec, bytes], NDArray[np.float64]] = {}

    def predict_rows(spec: LayerSpec, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        # Blocks repeat: the same layer at the same widths is predicted once.
        key = (spec, rows.tobytes())
        if key not in known:
            known[key] = table.predict(spec, rows, network_ms)
        return known[key]

    for located in net.located:
        cell = located.cell
        widths = [builder.width(axis) for axis in located.widths]
        scope = join_scopes(widths)
        once, place = find_distinct_rows([width.align(scope) for width in widths])
        shape = place.shape
        if not scope and not located.blocks:  # nothing to choose: a table over the one option
            scope, shape = builder.add_network(), (1,)
        cost = predict_rows(cell.spec, once)[place].reshape(shape)
        if cell.otherwise is not None:
            without = len(cell.without)
            rest = predict_rows(cell.otherwise, once)[place].reshape(shape)
            scope = (*map(keep_variable, cell.without), *scope)
            cost = np.broadcast_to(cost, (2,) * without + shape).copy()
            cost[(0,) * without] = rest
        gates, gated = gate(located.blocks, cost)
        yield Table(cell.name, (*gates, *scope), None, {resource: gated})
    if table.overhead_ms:
        overhead = {resource: np.array([table.overhead_ms])}
        yield Table("overhead", builder.add_network(), None, overhead)


def find_distinct_rows(
    grids: Sequence[NDArray[np.int64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the different rows [n, k] of k arrays that broadcast, in order, and where each is.

    The second array [*broadcast shape] indexes the first. The arrays are functions of few variables
    each, so that numbering their values one by one is far quicker than comparing all rows.
    """
    values, code, count = [], np.zeros((), dtype=np.int64), 1
    for grid in grids:
        own, number = np.unique(grid, return_inverse=True)
        values.append(own)
        code = code * len(own) + number.reshape(grid.shape)
        count *= len(own)
    if count <= 4 * code.size + 1000:
        present = np.zeros(count, dtype=bool)
        present[code] = True
        codes, place = np.flatnonzero(present), (np.cumsum(present) - 1)[code]
    else:
        codes, place = np.unique(code, return_inverse=True)
    index = np.unravel_index(codes, [len(own) for own in values])
    rows = np.stack([own[i] for own, i in zip(values, index)], axis=1)
    return rows, place.reshape(code.shape)
