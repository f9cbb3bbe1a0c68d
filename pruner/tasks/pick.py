"""Takes one of a network's outputs, by name or number."""

from collections.abc import Mapping
from typing import Any

from ..errors import PrunerError
from .divergence import describe_shapes
from .records import to_record


def pick_output(results: Any, choice: str | int) -> Any:
    """Return one of a network's outputs by name or number; PrunerError where there is none."""
    results = to_record(results)
    if isinstance(choice, str) and isinstance(results, Mapping) and choice in results:
        return results[choice]
    listed = list(results.values()) if isinstance(results, Mapping) else results
    ordered = listed if isinstance(listed, list | tuple) else []
    if isinstance(choice, int) and -len(ordered) <= choice < len(ordered):
        return ordered[choice]
    raise PrunerError(
        f"the network returns {describe_shapes(results)}, which has no output {choice!r}"
    )
