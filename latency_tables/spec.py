"""What is timed: a layer's specification, and a cell, which is one layer of one network."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

_READ_STRIDE = "read_stride"

Attribute: TypeAlias = int | float | str | bool | tuple[Any, ...] | None


@dataclass(frozen=True)
class LayerSpec:
    """One kind of layer, all but its widths: what a latency is looked up by.

    Batch and precision belong to the table (:class:`latency_tables.LatencyTable`), which holds
    one setting only.

    Attributes:
        operator: The anchor operator, e.g. ``"conv2d"``.
        sizes: Names of the widths that the latency is a function of, in order, e.g.
            ``("in_channels", "out_channels")``. One to four of them.
        attributes: Everything else that decides the latency (kernel, stride, padding, dilation,
            kind of grouping, spatial size, ...), as sorted (name, value) pairs of plain values.
        fused: The element-wise operators that follow the anchor and that engines fuse into it, in
            order.
    """

    operator: str
    sizes: tuple[str, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()
    fused: tuple[str, ...] = ()

    def with_read_stride(self, stride: int) -> LayerSpec:
        """Return the same layer where only every stride-th place of its result is read.

        Some engines then compute no more than that (OpenVINO moves the stride of a 1 x 1
        convolution to the layers before it).
        """
        return replace(self, attributes=tuple(sorted((*self.attributes, (_READ_STRIDE, stride)))))

    read_at = with_read_stride
    """The former name of `with_read_stride`."""

    @property
    def plain(self) -> LayerSpec:
        """The layer itself, however its result is read."""
        kept = tuple(pair for pair in self.attributes if pair[0] != _READ_STRIDE)
        return self if kept == self.attributes else replace(self, attributes=kept)

    def to_json(self) -> str:
        """Encode as canonical text: equal specifications give equal text."""
        return json.dumps(
            [self.operator, self.sizes, self.attributes, self.fused], separators=(",", ":")
        )

    @classmethod
    def from_json(cls, text: str) -> LayerSpec:
        """Decode what ``to_json`` gave."""
        operator, sizes, attributes, fused = json.loads(text)
        return cls(
            operator,
            tuple(sizes),
            tuple((name, _to_tuples(value)) for name, value in attributes),
            tuple(fused),
        )

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.attributes)
        tail = "".join(f"+{name}" for name in self.fused)
        return f"{self.operator}({', '.join(self.sizes)}; {values}){tail}"


def _to_tuples(value: Any) -> Any:
    return tuple(_to_tuples(v) for v in value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Cell:
    """One layer at its place in a network: name, specification, widths when nothing is cut.

    Attributes:
        dims: The network's Dims that the widths follow from (any order, no repeats).
        dense_sizes: The widths of the uncut network, one for each name in ``spec.sizes``.
        without: Where all of these blocks are dropped, the specification is ``otherwise``: the
            result is then read by strided 1 x 1 convolutions alone.
        otherwise: That specification; ``None``: it is always the same.
    """

    name: str
    spec: LayerSpec
    dims: tuple[str, ...]
    dense_sizes: tuple[int, ...]
    without: tuple[str, ...] = ()
    otherwise: LayerSpec | None = None

    def spec_at(self, dropped: Collection[str]) -> LayerSpec:
        """Return the specification where these blocks are dropped."""
        if self.otherwise is None or not set(self.without) <= set(dropped):
            return self.spec
        return self.otherwise
