"""The problem: variables with options, tables over them, budgets."""

from __future__ import annotations

import json
import math
import numbers
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from .errors import BudgetError, ProblemError
from .serialization import build_document, read_document
from .table import Table


@dataclass(frozen=True, eq=False)
class Problem:
    """A discrete graphical model with budgets.

    maximize ``sum_t value_t[x_scope(t)]`` subject to ``sum_t cost_t,r[x_scope(t)] <= budget_r`` for
    every budgeted resource ``r``, where every variable ``x_v`` picks one of ``options[v]`` options.
    A resource that tables cost but that has no budget is reported and not limited.

    Args:
        name: Names the problem in messages and reports.
        options: Variable to its number of options (at least one).
        tables: The tables; their names are unique.
        budgets: Resource to its limit, finite and not negative, in the unit of the tables' costs.

    Raises:
        ProblemError: Malformed input, by name: an unknown variable in a scope, a shape that does
            not broadcast, a table named twice, a number of options below one.
        BudgetError: A negative or non-finite budget, or one for a resource that no table costs.
    """

    name: str
    options: Mapping[str, int]
    tables: Sequence[Table]
    budgets: Mapping[str, float]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ProblemError(f"a problem's name must be a string, not {self.name!r}")
        if not isinstance(self.options, Mapping):
            raise ProblemError("options must map variables to their numbers of options")
        options: dict[str, int] = {}
        for variable, count in self.options.items():
            if not isinstance(variable, str):
                raise ProblemError(f"variable {variable!r}: its name must be a string")
            if isinstance(count, bool) or not isinstance(count, numbers.Integral) or count < 1:
                raise ProblemError(
                    f"variable {variable!r}: the number of options must be an integer of at "
                    f"least 1, not {count!r}"
                )
            options[variable] = int(count)
        tables = tuple(self.tables)
        seen: set[str] = set()
        for table in tables:
            if not isinstance(table, Table):
                raise ProblemError(f"tables must be solver.Table, not {type(table).__name__}")
            if table.name in seen:
                raise ProblemError(f"table {table.name!r} is given twice")
            seen.add(table.name)
            _check_shapes(table, options)
        object.__setattr__(self, "options", MappingProxyType(options))
        object.__setattr__(self, "tables", tables)
        object.__setattr__(self, "budgets", MappingProxyType(self.check_budgets(self.budgets)))

    def __reduce__(self):
        return (Problem, (self.name, dict(self.options), self.tables, dict(self.budgets)))

    @property
    def resources(self) -> tuple[str, ...]:
        """Every resource that a table costs, in order of appearance."""
        return tuple(dict.fromkeys(r for table in self.tables for r in table.cost))

    def shape(self, table: Table) -> tuple[int, ...]:
        """Return the shape ``[n_1, ..., n_k]`` of a table's scope."""
        return tuple(self.options[v] for v in table.scope)

    def check_budgets(self, budgets: Mapping[str, float]) -> dict[str, float]:
        """Return ``budgets`` as plain floats, or raise :class:`BudgetError`."""
        if not isinstance(budgets, Mapping):
            raise BudgetError(f"budgets must map resources to numbers, not {budgets!r}")
        known = self.resources
        checked: dict[str, float] = {}
        for resource, budget in budgets.items():
            if resource not in known:
                raise BudgetError(
                    f"budget for {resource!r}: no table costs it (known: "
                    f"{', '.join(known) or 'none'})"
                )
            if isinstance(budget, bool) or not isinstance(budget, numbers.Real):
                raise BudgetError(f"budget for {resource!r} must be a number, not {budget!r}")
            if not (0 <= budget <= sys.float_info.max):  # of integers beyond it too
                raise BudgetError(
                    f"budget for {resource!r} must be finite and not negative, not {budget!r}"
                )
            checked[resource] = float(budget)
        return checked

    def evaluate(self, choice: Mapping[str, int]) -> tuple[float, dict[str, float]]:
        """Return a complete choice's value and costs, each summed exactly and rounded once.

        Raises:
            ProblemError: A variable is missing or its option is out of range.
        """
        for variable, count in self.options.items():
            if variable not in choice:
                raise ProblemError(f"the choice leaves out variable {variable!r}")
            if not 0 <= choice[variable] < count:
                raise ProblemError(
                    f"variable {variable!r} has options 0 to {count - 1}, not {choice[variable]!r}"
                )
        values = []
        costs: dict[str, list[float]] = {r: [] for r in self.resources}
        for table in self.tables:
            index = tuple(int(choice[v]) for v in table.scope)
            values.append(0.0 if table.value is None else lookup(table.value, index))
            for resource, array in table.cost.items():
                costs[resource].append(lookup(array, index))
        value = -math.inf if -math.inf in values else math.fsum(values)
        return value, {r: math.fsum(c) for r, c in costs.items()}

    @classmethod
    def from_json(cls, source: str | Path) -> Problem:
        """Read a problem from a JSON file (a path) or a JSON text (starting with ``{``).

        The form is ``{"name", "options": {variable: n}, "tables": [{"name", "scope", "value":
        array or null, "cost": {resource: array}}], "budgets": {resource: number}}``; ``null``
        inside a value array is an inadmissible entry.

        Raises:
            ProblemError: No such file, not JSON, a missing key, or malformed content.
        """
        return cls(**read_document(source))

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the problem as JSON, and write it to ``path`` where one is given."""
        text = json.dumps(
            build_document(self.name, self.options, self.tables, self.budgets), allow_nan=False
        )
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text


def lookup(array: np.ndarray, index: tuple[int, ...]) -> float:
    """Return the entry at ``index`` of the array broadcast to ``len(index)`` axes."""
    tail = index[len(index) - array.ndim :]
    return float(array[tuple(0 if n == 1 else i for n, i in zip(array.shape, tail))])


def _check_shapes(table: Table, options: Mapping[str, int]) -> None:
    """Refuse a table with unknown variables, or arrays that do not broadcast to its scope."""
    unknown = [v for v in table.scope if v not in options]
    if unknown:
        raise ProblemError(
            f"table {table.name!r}: unknown variable {', '.join(map(repr, unknown))} in its scope"
        )
    shape = tuple(options[v] for v in table.scope)
    arrays = [("value", table.value)] if table.value is not None else []
    arrays += [(f"cost {r!r}", a) for r, a in table.cost.items()]
    for what, array in arrays:
        tail = shape[len(shape) - array.ndim :] if array.ndim <= len(shape) else None
        if tail is None or any(n not in (1, m) for n, m in zip(array.shape, tail)):
            raise ProblemError(
                f"table {table.name!r}: {what} has shape {list(array.shape)}, which does not "
                f"broadcast to {list(shape)}, the options of ({', '.join(table.scope)})"
            )
