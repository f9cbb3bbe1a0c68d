"""From a network, a latency table and scores to the problem that the solver sees.

Variables (`pruner.structure.choice` names, encodes and decodes them): the size of every Dim,
whether a Block is kept, and the width of a concatenation of parts that have no variable in common,
tied to them by tables that admit only consistent options. Tables: a cell's latency over the Blocks
it lies in and the widths it depends on (zero where a Block is dropped), and the importance of what
a Dim keeps, Block by Block. That is the MINLP of Multi-Dimensional Pruning (arXiv:2406.12079, eq.
5-7), whose products of decisions are entries of tables here. How large the network is in which a
layer runs makes a difference to it (``LatencyTable.sensitivity``): latencies are those in a network
that takes the whole budget.
"""

from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from latency_tables import LatencyTable, LayerSpec, network_digest
from solver import Problem, Table

from ..structure import Importance, Network, Plan, keep_variable, size_variable
from .budget import Budget
from .objective import gate, tabulate_importance
from .widths import WidthBuilder, join_scopes

LATENCY = "latency_ms"
_NETWORK = "network"  # the variable of what is the same in all structures; it has one option


def formulate(
    net: Network,
    table: LatencyTable,
    importance: Importance,
    budget: Budget | str | float,
    *,
    margin: float = 0.0,
    within: Plan | None = None,
) -> Problem:
    """Formulate "most importance within this latency"; `Plan.from_solution` reads the answer.

    A budget is ``"50%"`` of the dense network's latency as the table has measured it, ``"12ms"``,
    ``"80fps"`` at the batch of the table, or a number of milliseconds; the share ``margin`` of it
    is left unused, against the table's error. What an earlier round's plan has cut (``within``)
    stays cut: no Dim grows beyond its size there, and no Block comes back.

    Raises:
        PrunerError: A malformed budget, or one above dense.
        latency_tables.MissingSpecError: A cell that the table has not measured.
    """
    budget = Budget.coerce(budget)
    batch = table.device.batch if budget.unit == "fps" else 1
    budget_ms = budget.to_ms(table.uncut_ms(net), batch)
    # A user's table by formula may know the former name only.
    calibrate = getattr(table, "calibration", None) or table.context
    limit = calibrate(net).sum_ms(budget_ms * (1 - margin))
    builder = WidthBuilder(net)
    tables = _tabulate_latencies(net, table, builder, limit)
    tables += [*tabulate_importance(net, importance), *builder.tables]
    if within is not None:
        tables.extend(_forbid_growth(net, within))
    if table.overhead_ms:
        builder.options[_NETWORK] = 1
        cost = {LATENCY: np.array([table.overhead_ms])}
        tables.append(Table("overhead", (_NETWORK,), None, cost))
    return Problem(net.name, builder.options, tables, {LATENCY: limit})


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


def _tabulate_latencies(
    net: Network, table: LatencyTable, builder: WidthBuilder, network_ms: float
) -> list[Table]:
    """Return a table a cell: its latency in a network that takes network_ms."""

    @cache  # Blocks repeat: the same layer at the same widths is predicted once
    def predict_rows(spec: LayerSpec, rows: tuple[tuple[int, ...], ...]) -> NDArray[np.float64]:
        return table.predict(spec, np.array(rows), network_ms)

    tables = []
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
            builder.options[_NETWORK] = 1
            scope, shape = (_NETWORK,), (1,)
        cost = predict_rows(cell.spec, once)[place.ravel()].reshape(shape)
        if cell.otherwise is not None:
            without = len(cell.without)
            rest = predict_rows(cell.otherwise, once)[place.ravel()].reshape(shape)
            scope = (*map(keep_variable, cell.without), *scope)
            cost = np.broadcast_to(cost, (2,) * without + shape).copy()
            cost[(0,) * without] = rest
        gates, gated = gate(located.blocks, cost)
        tables.append(Table(cell.name, (*gates, *scope), None, {LATENCY: gated}))
    return tables


def _forbid_growth(net: Network, within: Plan) -> Iterator[Table]:
    """Yield tables that admit only what a plan keeps, or less of it."""
    sizes = within.sizes()
    for name, dim in net.dims.items():
        fits = np.array(dim.options()) <= sizes.get(name, dim.size)
        if not fits.all():
            limit = np.where(fits, 0.0, -np.inf)
            yield Table(f"limit of {name}", (size_variable(name),), limit, {})
    for name in within.dropped_blocks():
        yield Table(f"limit of {name}", (keep_variable(name),), np.array([0.0, -np.inf]), {})
