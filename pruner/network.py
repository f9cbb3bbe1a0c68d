"""What a traced network is made of: Dims, the slots that they cut, Blocks, and the Network itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Slot:
    """One axis of one parameter or buffer that a Dim cuts.

    tensor, axis
        The name in ``state_dict`` and the axis.
    owner
        [axis size] int: the Dim's index that each position of the axis belongs to, -1 for
        positions that are not this Dim's (another part of a concatenation).
    role
        ``"out"`` (weights and biases that write the Dim's channels), ``"norm"`` (scale, shift and
        statistics of a normalization), ``"in"`` (weights that read them), ``"other"``.
    cell
        The cell that the tensor belongs to, or None.
    blocks
        The removable blocks that the tensor lies in (all of them must be kept for it to live).
    """

    tensor: str
    axis: int
    owner: NDArray[np.int64]
    role: str
    cell: str | None
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class Dim:
    """One set of coupled tensor axes that must be cut together.

    size is the number of indices of the uncut network; kept sizes are multiples of step (or size).
    """

    name: str
    size: int
    step: int
    slots: tuple[Slot, ...] = field(repr=False)

    def options(self) -> tuple[int, ...]:
        """The sizes that may be chosen, ascending; the last is the uncut size."""
        return tuple(sorted({*range(self.step, self.size + 1, self.step), self.size}))


@dataclass(frozen=True)
class Block:
    """A removable branch of ``join = skip + branch``.

    join, skip
        Nodes of the graph: dropping the block replaces join by skip.
    nodes
        The nodes that fall away with it (join included).
    inside
        The blocks that this one lies within.
    """

    name: str
    join: str
    skip: str
    nodes: frozenset[str] = field(repr=False)
    inside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frozen:
    """One thing that cannot be cut: where, why, and the tensors that it locks."""

    node: str
    operator: str
    reason: str
    tensors: tuple[str, ...] = ()


Shapes = dict[str, tuple[int, ...]]
AnyModule = Any
