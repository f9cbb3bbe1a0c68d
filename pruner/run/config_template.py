"""A configuration file to begin with: every entry with what it means and its default."""

import dataclasses
import os
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import PrunerError
from ..utils import write_text
from .config import Config
from .console_summary import Outcome

_WIDTH = 100


def init(config: Config, path: str | os.PathLike[str]) -> Outcome:
    """Write a commented configuration file, with the entries of ``config`` set in it.

    Raises:
        PrunerError: There is such a file already.
    """
    target = Path(path)
    if target.exists():
        raise PrunerError(f"{target} is there already: give another file by --file, or delete it")
    write_text(target, write_template(config))
    return Outcome(f"{target}: edit it, then msprune run {target}", {"path": str(target)})


def write_template(config: Config) -> str:
    """Return the YAML text of a configuration with all entries.

    What differs from its default stands as it is; all else is a comment that holds the default, so
    that the text reads as ``config``, and does still when every such comment is made an entry.
    """
    plain = config.to_dict()
    lines = ["# What msprune run does. An entry behind #, without a space, has its default.", ""]
    lines += _list_entries(Config, plain, "")
    return "\n".join(lines).rstrip() + "\n"


def _list_entries(kind: Any, values: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Yield the lines of a class of settings, one entry after the other."""
    for field in dataclasses.fields(kind):
        value = values[field.name]
        described = kind.__pydantic_fields__[field.name].description
        yield from _comment(described, indent)
        default = _find_default(field)
        if dataclasses.is_dataclass(default):
            yield f"{indent}{field.name}:"
            yield from _list_entries(type(default), value, indent + "  ")
            yield ""
        else:
            yield from _write_entry(field.name, value, default, indent)


def _find_default(field: Any) -> Any:
    """Return the default of a field; the text ``""`` stands for none where one must be given."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return "" if field.default is dataclasses.MISSING else field.default


def _write_entry(name: str, value: Any, default: Any, indent: str) -> Iterator[str]:
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10**6)
    sign = "" if value != default else "#"
    written = text.removesuffix("...\n").rstrip()
    yield f"{indent}{sign}{name}: {written}"


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _WIDTH - len(indent) - 2):
        yield f"{indent}# {line}"
