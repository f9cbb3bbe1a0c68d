"""The JSON form of a problem: plain lists, ``null`` for an inadmissible entry."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ProblemError
from .table import Table

_JSON = {dict: "object", list: "array"}


def read_document(source: str | Path) -> dict[str, Any]:
    """Read the arguments of ``Problem`` from a JSON file or text (see ``Problem.from_json``).

    Raises:
        ProblemError: It cannot be read, or a key is missing or of the wrong kind.
    """
    if isinstance(source, str) and source.lstrip().startswith("{"):
        text, where = source, "the JSON text"
    else:
        where = str(source)
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ProblemError(f"{where}: cannot be read: {error}") from None
    try:
        document = json.loads(text, parse_constant=_parse_constant)
    except ProblemError as error:
        raise ProblemError(f"{where}: {error}") from None
    except (ValueError, RecursionError) as error:  # ValueError: numbers of thousands of digits, too
        raise ProblemError(f"{where}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ProblemError(f"{where}: a problem is a JSON object, not {type(document).__name__}")
    for key, kind in (("options", dict), ("tables", list), ("budgets", dict)):
        if not isinstance(document.get(key), kind):
            raise ProblemError(f"{where}: {key!r} is missing or not a JSON {_JSON[kind]}")
    unknown = set(document) - {"name", "options", "tables", "budgets"}
    if unknown:
        raise ProblemError(f"{where}: unknown key {', '.join(map(repr, sorted(unknown)))}")
    tables = [_parse_table(entry, i, where) for i, entry in enumerate(document["tables"])]
    return {
        "name": document.get("name", "problem"),
        "options": document["options"],
        "tables": tables,
        "budgets": document["budgets"],
    }


def build_document(
    name: str, options: Mapping[str, int], tables: Sequence[Table], budgets: Mapping[str, float]
) -> dict[str, Any]:
    """Return a problem's fields as plain dictionaries, lists and numbers."""
    return {
        "name": name,
        "options": dict(options),
        "tables": [
            {
                "name": t.name,
                "scope": list(t.scope),
                "value": None if t.value is None else _encode_values(t.value),
                "cost": {r: a.tolist() for r, a in t.cost.items()},
            }
            for t in tables
        ],
        "budgets": dict(budgets),
    }


def _parse_constant(text: str) -> float:
    """Return what Python's JSON calls ``-Infinity``; refuse its other constants."""
    if text == "-Infinity":
        return -math.inf
    raise ProblemError(f"{text} is not a number that a problem may hold")


def _parse_table(entry: Any, position: int, where: str) -> Table:
    if not isinstance(entry, dict) or "scope" not in entry:
        raise ProblemError(f"{where}: table {position} is not an object with a 'scope'")
    if not isinstance(entry["scope"], list):
        raise ProblemError(f"{where}: table {position}: 'scope' is not a list of variables")
    name = entry.get("name", f"table {position}")
    value = entry.get("value")
    if value is not None:
        try:
            value = np.array(value, dtype=np.float64)  # null becomes NaN
        except (TypeError, ValueError, OverflowError) as error:
            raise ProblemError(f"{where}: table {name!r}: value is not an array: {error}") from None
        value = np.where(np.isnan(value), -np.inf, value)
        if not entry["scope"] and value.size == 1:
            value = value.reshape(())  # written as [null], see below
    cost = entry.get("cost") or {}
    return Table(name, tuple(entry["scope"]), value, cost)


def _encode_values(array: np.ndarray) -> Any:
    """Return a value array as lists, with None at inadmissible entries."""
    if not np.isneginf(array).any():
        return array.tolist()
    # A plain null would mean "no array"; a single inadmissible number becomes [null].
    boxed = np.atleast_1d(array).astype(object)
    boxed[np.isneginf(np.atleast_1d(array))] = None
    return boxed.tolist()
