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

from collections.abc import Iterator

import numpy as np

from latency_tables import LatencyTable
from solver import Problem, Table

from ..structure import Importance, Network, Plan, keep_variable, size_variable
from .budget import Budget
from .constraints import Constraints
from .latency import sum_limit_ms, tabulate_latencies
from .objective import tabulate_importance
from .widths import WidthBuilder

LATENCY = "latency_ms"


def formulate(
    net: Network,
    table: LatencyTable,
    importance: Importance,
    budget: Budget | str | float,
    *,
    margin: float = 0.0,
    within: Plan | None = None,
    beyond: Plan | None = None,
    constraints: Constraints | None = None,
) -> Problem:
    """Formulate "most importance within this latency"; `Plan.from_solution` reads the answer.

    A budget is ``"50%"`` of the dense network's latency as the table has measured it, ``"12ms"``,
    ``"80fps"`` at the batch of the table, or a number of milliseconds; the share ``margin`` of it
    is left unused, against the table's error. What an earlier round's plan has cut (``within``)
    stays cut: no Dim grows beyond its size there, and no Block comes back. What a plan ``beyond``
    names and keeps stays: no Dim becomes smaller than there, no Block is dropped. ``constraints``
    are what else the structure must meet, further budgets among them.

    Raises:
        PrunerError: A malformed budget, one above dense, or a constraint that names nothing.
        latency_tables.MissingSpecError: A cell that the table has not measured.
    """
    budget, constraints = Budget.coerce(budget), constraints or Constraints()
    batch = table.device.batch if budget.unit == "fps" else 1
    budget_ms = budget.to_ms(table.uncut_ms(net), batch)
    limit = sum_limit_ms(net, table, budget_ms * (1 - margin))
    builder, budgets = WidthBuilder(net), {LATENCY: limit}
    tables = list(tabulate_latencies(net, table, builder, LATENCY, limit))
    extra, further = constraints.tabulate(net)
    for one in constraints.limits:
        more, own = one.tabulate(net, builder, margin)
        extra += more
        further |= own
    tables += [*tabulate_importance(net, importance, beyond), *builder.tables, *extra]
    if within is not None:
        tables.extend(_forbid_growth(net, within))
    if beyond is not None:
        tables.extend(_forbid_loss(net, beyond))
    return Problem(net.name, builder.options, tables, budgets | further)


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


def _forbid_loss(net: Network, beyond: Plan) -> Iterator[Table]:
    """Yield tables that admit only what a plan keeps, and more."""
    for name, size in beyond.sizes().items():
        fits = np.array(net.dims[name].options()) >= size
        if not fits.all():
            limit = np.where(fits, 0.0, -np.inf)
            yield Table(f"least of {name}", (size_variable(name),), limit, {})
    for name, stays in beyond.blocks.items():
        if stays:
            limit = np.array([-np.inf, 0.0])
            yield Table(f"stay of {name}", (keep_variable(name),), limit, {})
