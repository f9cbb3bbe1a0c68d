"""A captured network: a plain graph of ATen operators and a dictionary of tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, fx
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
        notes: What the network does in training only and the graph does not hold, in words.
    """

    graph: fx.Graph
    tensors: Mapping[str, Tensor]
    in_spec: pytree.TreeSpec
    out_spec: pytree.TreeSpec
    batch: int
    tied: Mapping[str, str] = field(default_factory=dict)
    transient: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
