"""Frozen dataclasses of settings that pydantic validates, with one line for what is wrong."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError
from typing_extensions import dataclass_transform

from ..errors import PrunerError
from .validation import suggest_names, wrong_value

T = TypeVar("T")

_WORDS = {
    "int_type": "a whole number", "float_type": "a number", "string_type": "a text",
    "bool_type": "true or false", "tuple_type": "a list", "dict_type": "names and values",
    "dataclass_type": "names and values",
}  # fmt: skip
_UNKNOWN = ("unexpected_keyword_argument", "invalid_key")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, Field))
def settings_class(cls: type[T]) -> type[T]:
    """Make a frozen dataclass whose fields are validated; PrunerError says what is wrong."""
    made: Any = dataclass(frozen=True, config=ConfigDict(extra="forbid"))(cls)
    build = made.__init__

    @functools.wraps(build)
    def __init__(self: Any, *values: Any, **named: Any) -> None:
        try:
            build(self, *values, **named)
        except ValidationError as error:
            raise _explain(error, made) from None

    made.__init__ = __init__
    return made


def read_settings(kind: type[T], content: Any) -> T:
    """Read plain data; PrunerError names the entry that is unknown, missing or of a wrong value."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        raise _explain(error, kind) from None


def entry(description: str, **bounds: Any) -> Any:
    """Return the annotation of a field: what it is, for the help and the schema, and its bounds."""
    return Field(description=description, **bounds)


def refuse(expected: str) -> PydanticCustomError:
    """Return the error that a validator of a field raises for a value that is not as expected."""
    return PydanticCustomError("refused", "{expected}", {"expected": expected})


def _read_number(value: Any) -> Any:
    """Return a number that is written as text, such as YAML's 1e-4; all else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _read_section(value: Any) -> Any:
    return {} if value is None else dict(value) if isinstance(value, Mapping) else value


NUMBER = BeforeValidator(_read_number)
"""Annotation of a field, after its bounds: a text that is a number is read as one."""
SECTION = BeforeValidator(_read_section)
"""Annotation of a field that is a class of settings: nothing stands for its defaults."""


def _explain(error: ValidationError, kind: Any) -> PrunerError:
    """Return the first problem as one line: unknown entries before values, missing ones last."""
    order = {**dict.fromkeys(_UNKNOWN, 0), "missing": 2}
    first = min(error.errors(include_url=False), key=lambda problem: order.get(problem["type"], 1))
    what, unknown = first["type"], first["type"] in _UNKNOWN
    path = [str(part) for part in first["loc"] if isinstance(part, str) or unknown]
    where = ".".join(path)
    fields: Mapping[str, Any] = kind.__pydantic_fields__
    for name in path[:-1]:
        fields = getattr(fields[name].annotation, "__pydantic_fields__", fields)
    if unknown:
        hint = suggest_names(path[-1], fields, 1, 0.6) or f"known are {', '.join(fields)}"
        return PrunerError(f"unknown entry {where}: {hint}")
    if what == "missing":
        return PrunerError(f"entry {where} is missing")
    field = fields.get(path[-1]) if path else None
    if what in _WORDS:
        optional = field is not None and type(None) in get_args(field.annotation)
        expected = _WORDS[what] + " or nothing" * optional
    elif what in ("refused", "literal_error"):
        expected = first["ctx"]["expected"]
    else:
        expected = _bounds(field) or first["msg"]
    return wrong_value(where or "the configuration", expected, first["input"])


def _bounds(field: Any) -> str:
    """Return what a number may be: ``0 or more``, ``at least 2``, ``above 0``, ``in [0, 1)``."""
    found = {
        name: getattr(entry, name)
        for entry in getattr(field, "metadata", ())
        for name in ("ge", "gt", "le", "lt")
        if getattr(entry, name, None) is not None
    }
    low, high = found.get("ge", found.get("gt")), found.get("le", found.get("lt"))
    if low is not None and high is not None:
        return f"in {'[' if 'ge' in found else '('}{low}, {high}{']' if 'le' in found else ')'}"
    if "ge" in found:
        return "0 or more" if low == 0 else f"at least {low}"
    return f"above {low}" if "gt" in found else ""
