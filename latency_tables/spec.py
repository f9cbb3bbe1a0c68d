"""What is timed: a layer's specification, and a cell, which is one layer at its place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeAlias

Attribute: TypeAlias = "int | float | str | bool | tuple[Any, ...] | None"


@dataclass(frozen=True)
class LayerSpec:
    """One kind of layer, all but its widths: what a latency is looked up by.

    operator
        The anchor operator, e.g. ``"conv2d"``.
    sizes
        Names of the widths that the latency is a function of, in order, e.g.
        ``("in_channels", "out_channels")``. One to four of them.
    attributes
        Everything else that decides the latency (kernel, stride, padding, dilation, kind of
        grouping, spatial size, ...), as sorted (name, value) pairs of plain values.
    fused
        The element-wise operators that follow the anchor and that engines fuse into it, in order.

    Batch and precision belong to the table (:class:`latency_tables.LatencyTable`), which holds
    one setting only.
    """

    operator: str
    sizes: tuple[str, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()
    fused: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Canonical text: equal specifications give equal text."""
        return json.dumps(
            [self.operator, self.sizes, self.attributes, self.fused], separators=(",", ":")
        )

    @classmethod
    def from_json(cls, text: str) -> LayerSpec:
        operator, sizes, attributes, fused = json.loads(text)
        return cls(
            operator,
            tuple(sizes),
            tuple((name, _tuples(value)) for name, value in attributes),
            tuple(fused),
        )

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.attributes)
        tail = "".join(f"+{name}" for name in self.fused)
        return f"{self.operator}({', '.join(self.sizes)}; {values}){tail}"


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Cell:
    """One layer at its place in a network: name, specification, widths when nothing is cut.

    dims
        The network's Dims that the widths follow from (any order, no repeats).
    dense_sizes
        The widths of the uncut network, one for each name in ``spec.sizes``.
    """

    name: str
    spec: LayerSpec
    dims: tuple[str, ...]
    dense_sizes: tuple[int, ...]
