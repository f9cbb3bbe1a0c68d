"""From a network, a latency table and scores to the problem that the solver sees.

Variables: ``size:DIM`` (one option for every size of the Dim), ``keep:BLOCK`` (0 dropped, 1 kept)
and ``sum:N``, the width of a concatenation of parts that have no variable in common, tied to them
by tables that admit only consistent options. Tables: a cell's latency over the blocks it lies in
and the widths it depends on (zero where a block is dropped), and the importance of what a Dim
keeps, block by block. That is the MINLP of Multi-Dimensional Pruning (arXiv:2406.12079, eq. 5-7),
whose products of decisions are entries of tables here. How large the network is in which a layer
runs makes a difference to it (``LatencyTable.sensitivity``): latencies are those in a network that
takes the whole budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latency_tables import network_digest
from solver import Problem, Table

from ..axes import Atom, Axis, Product, Sum, atoms_of, factors_of, parts_of, resolve_axis
from ..structure import LocatedCell, Network, Plan, rank_indices
from .budget import Budget

if TYPE_CHECKING:
    from latency_tables import LatencyTable, LayerSpec

    from ..structure import Importance

LATENCY = "latency_ms"

# Joint options up to which a sum of parts that share variables (queries, keys and values: the
# number of heads) is read as a function of those. A variable of its own would not take them apart:
# an elimination joins them all the same, and that variable besides.
_JOINT = 10_000


def formulate(
    net: Network,
    table: LatencyTable,
    importance: Importance,
    budget: Budget | str | float,
    *,
    margin: float = 0.0,
    within: Plan | None = None,
) -> Problem:
    """The problem "most importance within this latency".

    budget
        ``"50%"`` of the dense network's latency as the table has measured it, ``"12ms"``,
        ``"80fps"`` (at the batch that the table was measured at), or a number of milliseconds.
    margin
        This share of the budget is left unused, against the table's error.
    within
        What an earlier round has cut stays cut: no Dim grows beyond its size in this plan, and
        no Block comes back.

    Raises :class:`pruner.errors.PrunerError` for a malformed budget, and what the table raises for
    a cell that it has not measured.
    """
    builder = _Builder(net)
    budget_ms = Budget.coerce(budget).to_ms(table.uncut_ms(net), table.device.batch)
    limit = table.context(net).sum_ms(budget_ms * (1 - margin))
    tables = [*_latencies(net, table, builder, limit), *_importances(net, importance, builder)]
    tables.extend(builder.tables)
    if within is not None:
        tables.extend(_limits(net, within))
    options = dict(builder.options)
    if table.overhead_ms:
        options["network"] = 1
        cost = {LATENCY: np.array([table.overhead_ms])}
        tables.append(Table("overhead", ("network",), None, cost))
    return Problem(net.name, options, tables, {LATENCY: limit})


def predict(
    net: Network,
    table: LatencyTable,
    sizes: Mapping[str, int] | None = None,
    dropped: tuple[str, ...] = (),
) -> float:
    """Predicted latency of one structure in milliseconds (nothing named: the dense network)."""
    widths = net.cell_sizes(sizes or {}, dropped)
    cells = (
        (located.cell.spec_at(dropped), widths[located.cell.name])
        for located in net.located
        if located.cell.name in widths
    )
    return table.predict_total(cells, network_digest(net))


def objective_value(
    net: Network,
    importance: Importance,
    sizes: Mapping[str, int] | None = None,
    dropped: tuple[str, ...] = (),
) -> float:
    """The objective at one structure (nothing named: the dense network)."""
    return sum(objective_terms(net, importance, sizes, dropped))


def objective_terms(
    net: Network,
    importance: Importance,
    sizes: Mapping[str, int] | None = None,
    dropped: tuple[str, ...] = (),
) -> list[float]:
    """The terms of the objective at one structure; of rises: one a Dim, then one a Block."""
    chosen = {f"size:{name}": len(dim.options()) - 1 for name, dim in net.dims.items()}
    for name, size in (sizes or {}).items():
        chosen[f"size:{name}"] = net.dims[name].options().index(size)
    chosen |= {f"keep:{name}": int(name not in dropped) for name in net.blocks}
    found = []
    for table in _importances(net, importance, _Builder(net)):
        assert table.value is not None
        found.append(float(table.value[tuple(chosen[v] for v in table.scope)]))
    return found


@dataclass(frozen=True)
class _Width:
    """A size as a function of variables: values[options of vars] (a number where vars is empty)."""

    vars: tuple[str, ...]
    values: NDArray[np.int64]


@dataclass
class _Builder:
    """Collects variables; a concatenation's width may become one of its own, for all readers."""

    net: Network
    options: dict[str, int] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    sums: dict[tuple[int, ...], _Width] = field(default_factory=dict)
    dim_of: dict[Atom, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dim in self.net.dims.items():
            self.options[f"size:{name}"] = len(dim.options())
            self.dim_of[self.net.atoms[name]] = name
        for name in self.net.blocks:
            self.options[f"keep:{name}"] = 2

    def width(self, axis: Axis) -> _Width:
        axis = resolve_axis(axis)
        if isinstance(axis, Atom):
            name = self.dim_of.get(axis)
            if name is None:
                return _Width((), np.array(axis.size))
            return _Width((f"size:{name}",), np.array(self.net.dims[name].options()))
        if isinstance(axis, Product):
            result = _Width((), np.array(1))
            for factor in factors_of(axis):
                result = _combine(result, self.width(factor), np.multiply)
            return result
        return self._sum(axis)

    def _sum(self, axis: Sum) -> _Width:
        """Parts are added one by one; what was added before elsewhere is taken from there.

        DenseNet's layers read ever longer concatenations: each is the one before and one part more.
        """
        constant = 0
        free: dict[int, tuple[int, Axis]] = {}
        for part in parts_of(axis):
            if any(atom in self.dim_of for atom in atoms_of(part)):
                free[len(free)] = (self._key(part), part)
            else:
                constant += part.size
        keys = sorted(key for key, _ in free.values())
        parts = sorted(free.values(), key=lambda item: item[0])
        total, rest = self._largest_known(keys)
        if total is None:
            total = self.width(parts[0][1])
            rest = keys[1:]
            known = keys[:1]
        else:
            known = _minus(keys, rest)
        by_key = dict(parts)
        for key in rest:
            known = sorted([*known, key])
            total = self._added(tuple(known), total, self.width(by_key[key]))
        return _Width(total.vars, total.values + constant)

    def _key(self, part: Axis) -> int:
        """Equal parts have equal keys: positions of their atoms among the network's dims."""
        order = {name: i for i, name in enumerate(self.net.dims)}
        code = 0
        for atom in atoms_of(part):
            name = self.dim_of.get(atom)
            code = code * 100003 + (order[name] + 1 if name else 0)
        return code * 1000003 + part.size

    def _largest_known(self, keys: list[int]) -> tuple[_Width | None, list[int]]:
        best: tuple[int, ...] = ()
        for known in self.sums:
            if len(known) > len(best) and _within(known, keys):
                best = known
        return (self.sums[best], _minus(keys, list(best))) if best else (None, keys)

    def _added(self, key: tuple[int, ...], left: _Width, right: _Width) -> _Width:
        if key in self.sums:
            return self.sums[key]
        both = _combine(left, right, np.add)
        if set(left.vars) & set(right.vars) and both.values.size <= _JOINT:
            self.sums[key] = both
            return both
        sizes = np.unique(both.values)
        name = f"sum:{len(self.sums)}"
        self.options[name] = len(sizes)
        admitted = np.where(both.values[..., None] == sizes, 0.0, -np.inf)
        self.tables.append(Table(name, (*both.vars, name), admitted, {}))
        self.sums[key] = _Width((name,), sizes)
        return self.sums[key]


def _within(small: tuple[int, ...], large: list[int]) -> bool:
    return all(small.count(key) <= large.count(key) for key in set(small))


def _minus(keys: list[int], taken: list[int]) -> list[int]:
    rest = list(keys)
    for key in taken:
        rest.remove(key)
    return rest


def _combine(left: _Width, right: _Width, operation: np.ufunc) -> _Width:
    """Over the union of the variables of both."""
    scope = tuple(dict.fromkeys((*left.vars, *right.vars)))
    return _Width(scope, operation(_spread(left, scope), _spread(right, scope)))


def _spread(width: _Width, scope: tuple[str, ...]) -> NDArray[np.int64]:
    """The values with an axis for every variable of the scope, in its order (broadcastable)."""
    order = sorted(range(len(width.vars)), key=lambda i: scope.index(width.vars[i]))
    values = width.values.transpose(order)
    shape = [1] * len(scope)
    for i in order:
        shape[scope.index(width.vars[i])] = width.values.shape[i]
    return values.reshape(shape)


def _latencies(
    net: Network, table: LatencyTable, builder: _Builder, network_ms: float
) -> list[Table]:
    result = []
    # Blocks repeat: the same layer at the same widths is predicted once.
    known: dict[tuple[LayerSpec, bytes], NDArray[np.float64]] = {}

    def predicted(spec: LayerSpec, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        key = (spec, rows.tobytes())
        if key not in known:
            known[key] = table.predict(spec, rows, network_ms)
        return known[key]

    for located in net.located:
        widths = [builder.width(axis) for axis in located.widths]
        scope = tuple(dict.fromkeys(v for width in widths for v in width.vars))
        grids = np.broadcast_arrays(*(_spread(width, scope) for width in widths))
        rows = np.stack([grid.ravel() for grid in grids], axis=1)
        unique, place = np.unique(rows, axis=0, return_inverse=True)
        shape = grids[0].shape
        if not scope and not located.blocks:  # nothing to choose: a table over the one option
            scope, shape = (_constant(builder),), (1,)
        cell = located.cell
        cost = predicted(cell.spec, unique)[place.ravel()].reshape(shape)
        if cell.otherwise is not None:
            rest = predicted(cell.otherwise, unique)[place.ravel()].reshape(shape)
            scope = (*(f"keep:{name}" for name in cell.without), *scope)
            cost = np.broadcast_to(cost, (2,) * len(cell.without) + shape).copy()
            cost[(0,) * len(cell.without)] = rest
        gates, gated = _gated(located.blocks, cost)
        result.append(Table(located.cell.name, (*gates, *scope), None, {LATENCY: gated}))
    return result


def _constant(builder: _Builder) -> str:
    builder.options["network"] = 1
    return "network"


def _gated(
    blocks: tuple[str, ...], values: NDArray[np.float64]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Zero unless all the blocks are kept."""
    gated = np.zeros((2,) * len(blocks) + values.shape)
    gated[(1,) * len(blocks)] = values
    return tuple(f"keep:{name}" for name in blocks), gated


def _importances(net: Network, importance: Importance, builder: _Builder) -> list[Table]:
    """What a Dim's best n indices bring, by the blocks that they bring it in."""
    around: Mapping[str, LocatedCell] = {located.cell.name: located for located in net.located}
    result = list(_rises(net, importance))
    for name, dim in net.dims.items():
        if name in importance.loss_curves:
            continue
        order, options = rank_indices(importance, name), np.array(dim.options())
        by_blocks: dict[tuple[str, ...], NDArray[np.float64]] = {}
        for cell, part in importance.parts.get(name, {}).items():
            blocks = around[cell].blocks if cell else ()
            kept = np.concatenate([[0.0], np.cumsum(np.asarray(part, float)[order])])[options]
            by_blocks[blocks] = by_blocks.get(blocks, 0.0) + kept
        for blocks, kept in by_blocks.items():
            gates, gated = _gated(blocks, kept)
            label = f"importance of {name}" + (f" in {blocks[-1]}" if blocks else "")
            result.append(Table(label, (*gates, f"size:{name}"), gated, {}))
    if not importance.loss_curves:
        result.extend(_measured_blocks(net, importance, result))
    return result


def _rises(net: Network, importance: Importance) -> Iterator[Table]:
    """Losses by width, against the uncut network; what lies in a dropped block loses nothing more.

    A dropped block loses what its bypass was found to lose, in its place.
    """
    for name, rise in importance.loss_curves.items():
        around = [set(slot.blocks) for slot in net.dims[name].slots if slot.role in ("in", "out")]
        inside = set.intersection(*around) if around else set()
        blocks = tuple(b for b in net.blocks if b in inside)
        gates, gated = _gated(blocks, -np.asarray(rise, float))
        yield Table(f"importance of {name}", (*gates, f"size:{name}"), gated, {})
    if importance.loss_curves:
        for name, lost in importance.blocks.items():
            gates, gated = _gated(net.blocks[name].inside, np.array([-max(lost, 0.0), 0.0]))
            yield Table(f"importance of {name}", (*gates, f"keep:{name}"), gated, {})


def _limits(net: Network, within: Plan) -> Iterator[Table]:
    """Tables that admit only what a plan keeps, or less of it."""
    sizes = within.sizes()
    for name, dim in net.dims.items():
        fits = np.array(dim.options()) <= sizes.get(name, dim.size)
        if not fits.all():
            yield Table(f"limit of {name}", (f"size:{name}",), np.where(fits, 0.0, -np.inf), {})
    for name in within.dropped():
        yield Table(f"limit of {name}", (f"keep:{name}",), np.array([0.0, -np.inf]), {})


def _measured_blocks(
    net: Network, importance: Importance, parts: Sequence[Table]
) -> Iterator[Table]:
    """Where a block's value was measured, what its parts add up to is corrected to it."""
    for name, measured in importance.blocks.items():
        gates, one = _gated((*net.blocks[name].inside, name), np.array(1.0))
        inside = [t.value for t in parts if f"keep:{name}" in t.scope and t.value is not None]
        added = sum(float(value.ravel()[-1]) for value in inside)
        yield Table(f"importance of {name}", gates, (measured - added) * one, {})
