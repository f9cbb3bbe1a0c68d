"""Documents that people and other programs wrote: whatever is wrong with one is a ValueError."""

import json
from typing import Any

import yaml

MOST_VALUES = 100_000
"""Values that a YAML document may hold once its aliases are written out."""
_PLAIN = (str, int, float, bool, type(None))
_DATES = "tag:yaml.org,2002:timestamp"


class _PlainLoader(yaml.SafeLoader):
    """Reads dates as texts: a folder may be called ``2026-01-31``."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != _DATES]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text says; ValueError where it is none, or nested beyond all reason."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_yaml(text: str) -> Any:
    """Return what a YAML text says, as plain values, lists and dictionaries.

    Raises:
        ValueError: It is none, it holds other things, or its aliases make it too large.
    """
    try:
        content = yaml.load(text, _PlainLoader)  # which derives from SafeLoader
    except (yaml.YAMLError, TypeError) as error:  # TypeError: a list as a key
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_plain(content)
    return content


def _check_plain(content: Any) -> None:
    waiting, seen = [content], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES} values, or itself")
        if isinstance(value, dict):
            kinds = {type(key) for key in value}
            if not kinds <= {str} and not kinds <= {int}:
                raise ValueError(f"the keys {list(value)[:3]} are not all texts, or all numbers")
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif not isinstance(value, _PLAIN):
            raise ValueError(f"{value!r} is no text, number, list or names with values")
