"""PlainNetwork: a network as file formats take it, tensors in and tensors out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ..errors import PrunerError, first_line
from ..graph import (
    capture_program,
    export_program,
    flatten_arguments,
    flatten_io,
    io_nesting,
    materialize,
    unwrap_model,
)


@dataclass(frozen=True)
class PlainNetwork:
    """A network that takes and returns plain tensors, one after the other.

    Attributes:
        whole: The network, in evaluation mode, with arguments and results nested as its users know
            them.
        module: The same as a function of tensors, by position; it shares the tensors.
        inputs: Example inputs.
        free_batch: Whether a file is to leave the first axis of the inputs free.
    """

    whole: fx.GraphModule
    module: fx.GraphModule
    inputs: tuple[Tensor, ...]
    free_batch: bool = True

    @classmethod
    def of(
        cls, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
    ) -> PlainNetwork:
        """Return a network, read into a graph where it is none yet, with its example arguments.

        Raises:
            PrunerError: It cannot be read into a graph, or not be called with these arguments.
        """
        whole = unwrap_model(module)
        if not isinstance(whole, fx.GraphModule):
            whole = materialize(capture_program(whole, args, kwargs), type(whole).__name__)
        if whole.training:
            whole = copy.deepcopy(whole).eval()
        try:
            plain, inputs = flatten_io(whole, args, kwargs)
            with torch.no_grad():
                plain(*inputs)
        except Exception as error:  # whatever a call that does not fit raises
            shapes = ", ".join(describe_tensor(x) for x in pytree.tree_leaves((args, kwargs or {})))
            raise PrunerError(
                f"the network cannot be called with the example arguments ({shapes}): "
                f"{first_line(error, with_kind=False)}"
            ) from error
        if not inputs:
            raise PrunerError("the network takes no tensors: there is nothing to write")
        return cls(whole, plain, inputs)

    @property
    def batch(self) -> int:
        """The batch of the example inputs: the first axis of the first one that has axes."""
        return next((len(x) for x in self.inputs if x.dim()), 1)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs: those of the arguments."""
        nodes = self.module.graph.nodes
        return tuple(str(node.target) for node in nodes if node.op == "placeholder")

    def fix_batch(self) -> PlainNetwork:
        """Return the same network to be written with the example's batch."""
        return replace(self, free_batch=False)

    def to_half(self) -> PlainNetwork:
        """Return a copy in half precision, its inputs too."""
        half = copy.deepcopy(self.module).half()
        inputs = tuple(x.half() if x.is_floating_point() else x for x in self.inputs)
        return replace(self, module=half, inputs=inputs)

    def export(self) -> torch.export.ExportedProgram:
        """Return it as ``torch.export`` reads it, with a free batch where that is asked for."""
        return export_program(self.module, self.inputs, free=self.free_batch)

    def take(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """Return the tensors among the arguments of a call, in the order of the inputs."""
        leaves = flatten_arguments(self.whole, args, kwargs)
        return tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))

    def nest(self, outputs: list[Tensor]) -> Any:
        """Return plain outputs nested as the network's users know them."""
        left = iter(outputs)
        (result,) = next(n for n in self.whole.graph.nodes if n.op == "output").args
        filled = fx.node.map_arg(result, lambda node: next(left))
        nesting = io_nesting(self.whole.graph)
        if nesting is None:
            return filled
        return pytree.tree_unflatten(pytree.tree_leaves(filled), nesting[2])


def describe_tensor(value: Any) -> str:
    """Return a tensor's type and shape, ``float32 [1, 3, 224, 224]``; of anything else its text."""
    if not isinstance(value, Tensor):
        return repr(value)
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
