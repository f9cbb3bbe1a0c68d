"""Tensors that take memory, by the Dims that they follow and the Blocks that they need."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from torch import nn

from ..axes import Atom, Axis, group_by_module, list_modules_around
from .network import Network
from .residual_blocks import find_shared_blocks, index_blocks

Clause: TypeAlias = tuple[tuple[str, ...], ...]
"""True where all Blocks of one of its members are kept."""


def check_clauses(clauses: Iterable[Clause], dropped: Collection[str]) -> bool:
    """Return whether all clauses are true when these Blocks are dropped."""
    return all(
        any(not any(block in dropped for block in term) for term in clause) for clause in clauses
    )


@dataclass(frozen=True)
class Allocation:
    """Memory that a tensor takes.

    Attributes:
        name: The parameter, buffer, or operator whose result it is; views of it are included.
        axes: The tensor's axes.
        item_bytes: Bytes of one element.
        clauses: It is there where all of these are true.
        trained: Whether it is a parameter.
    """

    name: str
    axes: tuple[Axis, ...]
    item_bytes: int
    clauses: tuple[Clause, ...]
    trained: bool = False

    @property
    def blocks(self) -> tuple[str, ...]:
        """The Blocks that its presence depends on."""
        return tuple(dict.fromkeys(b for clause in self.clauses for term in clause for b in term))

    def is_present(self, dropped: Collection[str]) -> bool:
        """Return whether it is there when these Blocks are dropped."""
        return check_clauses(self.clauses, dropped)


def list_weights(net: Network) -> tuple[Allocation, ...]:
    """Return every parameter and buffer.

    One that no operator reads is there as long as anything of the module around it is that is read.
    """
    around = index_blocks(net.blocks)
    tensors, nodes = net.program.tensors, list(net.axis_map.tensor_nodes())
    blocks = {
        str(node.target): find_shared_blocks({user.name for user in node.users}, around)
        for node in nodes
    }
    members = group_by_module(blocks)
    axes = {str(node.target): tuple(net.axis_map.axes_of(node)) for node in nodes}
    result = []
    for name, tensor in tensors.items():
        if name in blocks:
            clause: Clause = (blocks[name],)
            own = axes[name]
        else:
            holder = next((one for one in list_modules_around(name) if one in members), None)
            if holder is None:
                continue
            clause = tuple(dict.fromkeys(blocks[other] for other in members[holder]))
            own = tuple(Atom(size, "no operator reads it") for size in tensor.shape)
        clauses = () if () in clause else (clause,)
        trained = isinstance(tensor, nn.Parameter)
        result.append(Allocation(name, own, tensor.element_size(), clauses, trained))
    return tuple(result)
