"""Further budgets beside the latency: parameters, multiply-adds, memory, another latency table."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from latency_tables import LatencyTable
from solver import Table

from ..errors import PrunerError
from ..structure import (
    Allocation,
    Network,
    count_macs,
    count_memory,
    count_parameters,
    find_memory_points,
    get_batch_size,
    keep_variable,
    list_macs,
    list_weights,
)
from .budget import Budget
from .latency import predict, sum_limit_ms, tabulate_latencies
from .objective import gate
from .widths import WidthBuilder

PARAMETERS, MACS, MEMORY = "params", "macs", "memory"
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_UNITS: Mapping[str, Mapping[str, float]] = {PARAMETERS: _COUNTS, MACS: _COUNTS, MEMORY: _BYTES}
RESOURCES = tuple(_UNITS)
"""What can be limited but for latencies."""
_EXAMPLES = {PARAMETERS: "1.5M", MACS: "300M", MEMORY: "6MB"}
_FORM = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(%|[a-zA-Z]*)\s*")
_MOST_BLOCKS = 8  # an activation whose presence hangs on more is taken to be always there


@dataclass(frozen=True)
class Limit:
    """A budget of one resource beside the latency budget.

    Attributes:
        resource: ``params``, ``macs`` (of one input), ``memory`` (bytes of an inference at the
            traced batch, see `pruner.structure.count_memory`), or a name for another table.
        text: The limit as it is written: ``1.5M``, ``40%`` (of dense), ``6MB``, ``8ms``.
        table: The latency table of another device, engine, precision or batch; its limit is a
            `Budget`.
    """

    resource: str
    text: str
    table: LatencyTable | None = None

    def __post_init__(self) -> None:
        if self.table is not None:
            Budget.parse(self.text)
        elif self.resource in _UNITS:
            self._parse_text()
        else:
            raise PrunerError(
                f"cannot limit {self.resource!r}: name {', '.join(_UNITS)} or a measured RUN, as "
                "in params=1.5M, macs=40%, memory=6MB, RUN=8ms"
            )

    @classmethod
    def parse(cls, text: str, open_table: Callable[[str], LatencyTable] | None = None) -> Limit:
        """Read ``params=1.5M``, ``macs=40%``, ``memory=6MB``, or ``RUN=8ms`` of another table.

        Args:
            text: A resource and its limit.
            open_table: Returns the table of a RUN; where there is none, RUN is refused.
        """
        name, amount = split_limit(text)
        if name in RESOURCES or open_table is None:
            return cls(name, amount)
        return cls(name, amount, open_table(name))

    def _parse_text(self) -> tuple[float, str]:
        """Return the number and the unit that are written."""
        match = _FORM.fullmatch(self.text)
        number, unit = (float(match[1]), match[2].lower()) if match else (0.0, "")
        if not 0 < number < math.inf or unit not in (*_UNITS[self.resource], "%"):
            example = _EXAMPLES[self.resource]
            raise PrunerError(
                f"{self.resource}={self.text}: expected an amount such as {example}, or a share of "
                "dense such as 40%"
            )
        return number, unit

    @property
    def name(self) -> str:
        """The resource's name in a problem."""
        return self.resource if self.table is None else f"latency_ms of {self.resource}"

    def measure(
        self, net: Network, sizes: Mapping[str, int] | None = None, dropped: tuple[str, ...] = ()
    ) -> float:
        """Return what a structure takes of the resource (nothing named: the dense network)."""
        if self.table is not None:
            return predict(net, self.table, sizes, dropped)
        counts: Mapping[str, Callable[..., int]] = {
            PARAMETERS: count_parameters, MACS: count_macs, MEMORY: count_memory,
        }  # fmt: skip
        return float(counts[self.resource](net, sizes, dropped))

    def to_amount(self, net: Network) -> float:
        """Return the limit in the resource's unit: a count, bytes, or milliseconds."""
        if self.table is not None:
            budget = Budget.parse(self.text)
            batch = self.table.device.batch if budget.unit == "fps" else 1
            return budget.limit_ms(self.table.uncut_ms(net), batch)
        number, unit = self._parse_text()
        if unit == "%":
            return self.measure(net) * number / 100
        return number * _UNITS[self.resource][unit]

    def loosen(self, net: Network, share: float) -> Limit:
        """Return a limit part of the way from dense to this one, on a logarithmic scale."""
        dense, limit = self.measure(net), self.to_amount(net)
        amount = dense * (limit / dense) ** share if limit < dense else limit
        unit = "ms" if self.table is not None else "B" if self.resource == MEMORY else ""
        return replace(self, text=f"{amount!r}{unit}")

    def tabulate(
        self, net: Network, builder: WidthBuilder, margin: float = 0.0
    ) -> tuple[list[Table], dict[str, float]]:
        """Return tables of what every choice takes, and the budgets of the resources in them.

        Memory has as many resources as there are operators at which it may be too much. The share
        margin of a latency is left unused.
        """
        limit = self.to_amount(net)
        if self.table is not None:
            sum_ms = sum_limit_ms(net, self.table, limit * (1 - margin))
            tables = tabulate_latencies(net, self.table, builder, self.name, sum_ms)
            named = [replace(one, name=f"{one.name}: {self.name}") for one in tables]
            return named, {self.name: sum_ms}
        if self.resource == MEMORY:
            return _tabulate_memory(net, builder, limit)
        collected = _TableCollector(self.name)
        if self.resource == MACS:
            for axes, blocks in list_macs(net):
                width = builder.multiply(axes)
                gates, gated = gate(blocks, width.values.astype(float))
                collected.add(self.name, (*gates, *width.variables), gated)
        for one in list_weights(net) if self.resource == PARAMETERS else ():
            if one.trained:
                counted = replace(one, item_bytes=1)
                collected.add(self.name, *_tabulate_allocation(net, builder, counted, ()))
        return collected.tables(builder), {self.name: limit}


def split_limit(text: str) -> tuple[str, str]:
    """Return the resource or RUN, and the amount, of a limit as it is written."""
    name, equals, amount = text.rpartition("=")
    return (name.strip(), amount.strip()) if equals else (text.strip(), "")


class _TableCollector:
    """Sums of costs, one table a scope."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.costs: dict[tuple[str, ...], dict[str, NDArray[np.float64]]] = defaultdict(dict)

    def add(self, resource: str, scope: Sequence[str], values: NDArray[np.float64]) -> None:
        """Add costs [options of each variable of the scope]."""
        order = sorted(range(len(scope)), key=scope.__getitem__)
        costs = self.costs[tuple(scope[i] for i in order)]
        costs[resource] = costs.get(resource, 0.0) + values.transpose(order)

    def tables(self, builder: WidthBuilder) -> list[Table]:
        """Return the tables; what depends on nothing has the variable of one option."""
        return [
            Table(f"{self.label} by {', '.join(scope)}", scope, None, costs)
            if scope
            else Table(
                f"{self.label} of what stays",
                builder.add_network(),
                None,
                {name: np.reshape(cost, 1) for name, cost in costs.items()},
            )
            for scope, costs in self.costs.items()
        ]


def _tabulate_memory(
    net: Network, builder: WidthBuilder, limit: float
) -> tuple[list[Table], dict[str, float]]:
    """Tabulate the weights and what is alive beside them, for each point that may be the peak."""
    weights = [_tabulate_allocation(net, builder, one, ()) for one in list_weights(net)]
    most = sum(float(values.max()) for _, values in weights)
    collected = _TableCollector(MEMORY)
    budgets = {}
    for name, tables in _find_peaks(net, builder, limit - most):
        budgets[name] = limit
        for scope, values in (*tables, *weights):
            collected.add(name, scope, values)
    if not budgets:  # weights alone
        for scope, values in weights:
            collected.add(MEMORY, scope, values)
        budgets[MEMORY] = limit
    return collected.tables(builder), budgets


_Costs = list[tuple[tuple[str, ...], NDArray[np.float64]]]


def _find_peaks(net: Network, builder: WidthBuilder, room: float) -> Iterator[tuple[str, _Costs]]:
    """Yield the points that can need more than room and are not always below another one."""
    points: dict[str, _Costs] = {}
    known = set()
    for point in find_memory_points(net):
        own = _TableCollector("")
        for one in point.live:
            own.add("", *_tabulate_allocation(net, builder, one, point.blocks))
        tables = [(scope, costs[""]) for scope, costs in sorted(own.costs.items())]
        key = tuple((scope, values.tobytes()) for scope, values in tables)
        if key not in known:
            known.add(key)
            points[f"{MEMORY} at {point.name}"] = tables
    least = {name: sum(float(v.min()) for _, v in tables) for name, tables in points.items()}
    largest = max(least, key=least.__getitem__, default="")
    for name, tables in points.items():
        most = sum(float(values.max()) for _, values in tables)
        if most > room and (name == largest or most > least[largest]):
            yield name, tables


def _tabulate_allocation(
    net: Network, builder: WidthBuilder, one: Allocation, around: tuple[str, ...]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return bytes by Blocks and widths; nothing unless all Blocks around are kept."""
    own = one.blocks
    if len(own) > _MOST_BLOCKS:
        one, own = replace(one, clauses=()), ()
    blocks = tuple(dict.fromkeys((*around, *own)))
    width = builder.multiply(one.axes, get_batch_size(net))
    present = np.zeros((2,) * len(blocks))
    for kept in product((0, 1), repeat=len(blocks)):
        dropped = [block for block, stays in zip(blocks, kept) if not stays]
        present[kept] = one.is_present(dropped) and not set(around).intersection(dropped)
    values = present.reshape(present.shape + (1,) * width.values.ndim) * width.values
    return (*map(keep_variable, blocks), *width.variables), values * one.item_bytes
