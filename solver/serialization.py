"""The JSON form of a problem: plain lists, ``null`` for an inadmissible entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ProblemError
from .table import Table

if TYPE_CHECKING:
    from .problem import Problem


def from_document(document: Any, where: str) -> dict[str, Any]:
    """Turn parsed JSON into the arguments of ``Problem``.

    Raises:
        ProblemError: A key is missing or of the wrong kind; ``where`` leads the message.
    """
    if not isinstance(document, dict):
        raise ProblemError(f"{where}: a problem is a JSON object, not {type(document).__name__}")
    for key, kind in (("options", dict), ("tables", list), ("budgets", dict)):
        if not isinstance(document.get(key), kind):
            raise ProblemError(f"{where}: {key!r} is missing or not a JSON {_JSON[kind]}")
    unknown = set(document) - {"name", "options", "tables", "budgets"}
    if unknown:
        raise ProblemError(f"{where}: unknown key {', '.join(map(repr, sorted(unknown)))}")
    tables = [_table(entry, i, where) for i, entry in enumerate(document["tables"])]
    return {
        "name": document.get("name", "problem"),
        "options": document["options"],
        "tables": tables,
        "budgets": document["budgets"],
    }


def to_document(problem: Problem) -> dict[str, Any]:
    """The problem as plain dictionaries, lists and numbers."""
    return {
        "name": problem.name,
        "options": dict(problem.options),
        "tables": [
            {
                "name": t.name,
                "scope": list(t.scope),
                "value": None if t.value is None else _null_where_inadmissible(t.value),
                "cost": {r: a.tolist() for r, a in t.cost.items()},
            }
            for t in problem.tables
        ],
        "budgets": dict(problem.budgets),
    }


_JSON = {dict: "object", list: "array"}


def _table(entry: Any, position: int, where: str) -> Table:
    if not isinstance(entry, dict) or "scope" not in entry:
        raise ProblemError(f"{where}: table {position} is not an object with a 'scope'")
    if not isinstance(entry["scope"], list):
        raise ProblemError(f"{where}: table {position}: 'scope' is not a list of variables")
    name = entry.get("name", f"table {position}")
    value = entry.get("value")
    if value is not None:
        try:
            value = np.array(value, dtype=np.float64)  # null becomes NaN
        except (TypeError, ValueError) as error:
            raise ProblemError(f"{where}: table {name!r}: value is not an array: {error}") from None
        value = np.where(np.isnan(value), -np.inf, value)
        if not entry["scope"] and value.size == 1:
            value = value.reshape(())  # written as [null], see below
    cost = entry.get("cost") or {}
    return Table(name, tuple(entry["scope"]), value, cost)


def _null_where_inadmissible(array: np.ndarray) -> Any:
    if not np.isneginf(array).any():
        return array.tolist()
    # A plain null would mean "no array"; a single inadmissible number becomes [null].
    boxed = np.atleast_1d(array).astype(object)
    boxed[np.isneginf(np.atleast_1d(array))] = None
    return boxed.tolist()
