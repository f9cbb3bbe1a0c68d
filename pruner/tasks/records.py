"""Records: what a network returns under names, however the class is made."""

import dataclasses
from collections.abc import Mapping
from typing import Any


def to_record(results: Any) -> Any:
    """Return a dataclass as a dict of its fields that hold something; anything else as it is.

    A mapping stays what it is, Hugging Face's ModelOutput (both) too.
    """
    if isinstance(results, Mapping | type) or not dataclasses.is_dataclass(results):
        return results
    fields = {field.name: getattr(results, field.name) for field in dataclasses.fields(results)}
    return {name: value for name, value in fields.items() if value is not None}
