"""A captured network: a plain graph of ATen operators and a dictionary of tensors."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

BATCH_HINT = 7919
"""The dynamic batch is looked at as this many images: a prime that no width or map size shares,
so that a reshape which mixes the batch with windows or heads factors in one way only."""


@dataclass(frozen=True)
class Program:
    """A network as a graph in canonical form, and its tensors.

    Attributes:
        graph: ATen operators; ``meta["shape"]`` holds the shape (or a list of them) as integers,
            the batch as :data:`BATCH_HINT`; ``meta["path"]`` the module that the operator was
            called in; ``meta["training"]`` the arguments that are others in training.
        tensors: Parameters and buffers by ``state_dict`` names; parameters are ``nn.Parameter``.
        in_spec: How arguments are nested (``torch.utils._pytree``).
        out_spec: How results are nested.
        batch: ``BATCH_HINT``, or the fixed batch that the network insists on.
        tied: Other names of tensors -> their names in ``tensors``.
        transient: Buffers that ``state_dict`` leaves out.
        renamed: Names of modules and tensors that a graph's module cannot have -> the model's.
        sizes: Of inputs by name, what their axes must measure, None for any.
        values: Of inputs that are no tensors by name, what they must be.
        notes: What the network does in training only and the graph does not hold, in words.
    """

    graph: fx.Graph
    tensors: Mapping[str, Tensor]
    in_spec: pytree.TreeSpec
    out_spec: pytree.TreeSpec
    batch: int
    tied: Mapping[str, str] = field(default_factory=dict)
    transient: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def named_tensors(module: nn.Module, tied: bool = False) -> dict[str, Tensor]:
    """Return a module's parameters, then buffers by name, those that are not saved too.

    A tensor that is held several times stands under its first name, with ``tied`` under all.
    """
    return {
        **dict(module.named_parameters(remove_duplicate=not tied)),
        **dict(module.named_buffers(remove_duplicate=not tied)),
    }


def group_tied_names(module: nn.Module) -> list[list[str]]:
    """Return the names of every tensor, all of those that one tensor goes by together."""
    groups: dict[int, list[str]] = defaultdict(list)
    for name, tensor in named_tensors(module, tied=True).items():
        groups[id(tensor)].append(name)
    return list(groups.values())
