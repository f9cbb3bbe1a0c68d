"""Counting and splitting the samples of a batch, however it is nested.

A tensor holds its samples along axis 0, a list an entry for each; tuples and dicts only nest.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import PrunerError
from .protocol import Batch


def count_samples(values: Any) -> int:
    """Return the number of samples in inputs or targets, by the first that has any; 0: none."""
    if isinstance(values, list):
        return len(values)
    if isinstance(values, Tensor):
        return len(values) if values.ndim else 0
    parts = values.values() if isinstance(values, Mapping) else values
    if not isinstance(values, Mapping | tuple):
        return 0
    return next((count for part in parts if (count := count_samples(part))), 0)


def require_samples(batch: Batch, where: str) -> int:
    """Return the number of samples of a batch; PrunerError, which begins with where, if none."""
    count = count_samples(batch[0])
    if not count:
        raise PrunerError(f"{where} is empty: its inputs hold no sample")
    return count


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Split a batch into at most so many, alike in size but for the last.

    Raises:
        PrunerError: A tensor or list has not one entry for every sample.
    """
    count = count_samples(batch[0])
    if parts <= 1 or count <= 1:
        return [batch]
    size = -(-count // min(parts, count))
    bounds = [(start, min(start + size, count)) for start in range(0, count, size)]
    return [
        (_take_rows(batch[0], count, *bound), _take_rows(batch[1], count, *bound))
        for bound in bounds
    ]


def _take_rows(values: Any, count: int, start: int, stop: int) -> Any:
    if isinstance(values, dict):
        return {key: _take_rows(part, count, start, stop) for key, part in values.items()}
    if isinstance(values, tuple):
        parts = [_take_rows(part, count, start, stop) for part in values]
        return type(values)(*parts) if hasattr(values, "_fields") else tuple(parts)
    if isinstance(values, list) or (isinstance(values, Tensor) and values.ndim):
        if len(values) != count:
            raise PrunerError(
                f"a batch of {count} samples holds a {type(values).__name__} of {len(values)} "
                "entries, so it cannot be split: set accumulate to 1"
            )
        return values[start:stop]
    return values
