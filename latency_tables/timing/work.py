"""A rough measure of a layer's work, to share out the time of a kernel that covers several."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..spec import LayerSpec

# Multiply-adds in the time of moving one number: about what GPUs and CPUs have in common.
_BALANCE = 50.0


def estimate_work(spec: LayerSpec, sizes: Sequence[int]) -> float:
    """Count multiply-adds, plus ``_BALANCE`` for every number read or written; at least 1.

    From the specification's widths and attributes alone: good to a small factor, which is enough
    where it only has to weigh layers against each other.
    """
    given = dict(spec.attributes)
    width = float(np.prod(sizes)) if len(sizes) else 1.0
    if "map" in given:  # a convolution
        positions = _product(given["map"]) / _product(given.get("stride"))
        return positions * (_product(given.get("kernel")) * width + _BALANCE * sum(sizes)) + 1
    if "rows" in given:  # a matrix product with weights
        return _product(given["rows"]) * (width + _BALANCE * sum(sizes)) + 1
    shapes = given.get("shapes")
    rows = shapes if isinstance(shapes, tuple) else ()
    positions = max((_product(shape) for shape in rows if isinstance(shape, tuple)), default=1.0)
    return positions * _BALANCE * width + 1


def _product(value: Any) -> float:
    """Multiply the numbers in a value; names, such as that of the batch, count as 1."""
    if isinstance(value, tuple):
        return float(np.prod([_product(v) for v in value])) if value else 1.0
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 1.0
