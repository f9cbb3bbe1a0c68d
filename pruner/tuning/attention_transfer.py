"""Where a network looks: maps of its activations' energy, which a student can learn of a teacher.

Channels are cut and streams are turned, so the values of two networks do not compare channel by
channel. The energy over all channels at every place does: cutting leaves places as they are
(attention transfer: Zagoruyko and Komodakis 2017, arXiv 1612.03928).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from ..errors import PrunerError
from ..graph import evaluation_mode

# Kinds of layers that tell which axis of their result is the channels'.
_FIRST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.modules.batchnorm._BatchNorm, nn.GroupNorm)
_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm)


def shared_maps(module: nn.Module, teacher: nn.Module, example: Tensor) -> dict[str, int]:
    """Values that both networks have at the same places: the last one of every resolution.

    module, teacher
        A cut network and the one that it was cut from, whose graphs have the same names.
    example
        A batch of inputs.

    Returns names of nodes -> the axis of the channels. Raises PrunerError where there are none.
    """
    if not isinstance(module, fx.GraphModule) or not isinstance(teacher, fx.GraphModule):
        raise PrunerError(
            "attention transfer needs networks made by pruner.trace and pruner.apply, whose parts "
            f"have the same names; got {type(module).__name__} and {type(teacher).__name__}"
        )
    ours, theirs = _Places(module), _Places(teacher)
    with evaluation_mode(module, teacher), torch.no_grad():
        for places in (ours, theirs):
            places.run(example, enable_io_processing=False)
    last: dict[tuple[int, ...], str] = {}
    for name, shape in ours.shapes.items():
        if shape == theirs.shapes.get(name) and len(shape) > 1:
            last[shape] = name
    if not last:
        raise PrunerError(
            "attention transfer: the network and its teacher share no map of more than one place; "
            "set attention to 0"
        )
    return {name: ours.axes[name] for name in last.values()}


def with_values(module: fx.GraphModule, names: Sequence[str]) -> fx.GraphModule:
    """The same layers in a network that returns (its results, the values of these nodes)."""
    graph = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    results = graph.graph_copy(module.graph, copies)
    by_name = {node.name: copy for node, copy in copies.items()}
    graph.output((results, [by_name[name] for name in names]))
    return fx.GraphModule(module, graph)


def attention_loss(ours: Sequence[Tensor], theirs: Sequence[Tensor], axes: Sequence[int]) -> Tensor:
    """Mean over maps and images of ``|q - p|^2``, in [0, 2].

    q and p are the energies of a value at all its places, as vectors of length 1 (eq. 2 of the
    paper, squared and without its factor).
    """
    distances = [
        (_energy(x, axis) - _energy(y, axis)).square().sum(1).mean()
        for x, y, axis in zip(ours, theirs, axes, strict=True)
    ]
    return torch.stack(distances).mean()


def _energy(value: Tensor, axis: int) -> Tensor:
    return functional.normalize(value.float().square().sum(axis).flatten(1), dim=1)


class _Places(fx.Interpreter):
    """Runs a graph and notes, where the axis of the channels is known, the shape without it."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.axes: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.whole: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.is_floating_point() and n.op != "get_attr":
            axis = self._axis(n, value)
            if axis is not None and value.ndim > 2:
                self.axes[n.name] = axis
                self.whole[n.name] = tuple(value.shape)
                places = list(value.shape[1:])
                del places[axis - 1]
                self.shapes[n.name] = tuple(p for p in places if p > 1) and tuple(places)
        return value

    def _axis(self, n: fx.Node, value: Tensor) -> int | None:
        if n.op == "call_module":
            layer = self.fetch_attr(str(n.target))
            if isinstance(layer, _FIRST):
                return 1
            if isinstance(layer, _LAST):
                return value.ndim - 1
        for source in n.all_input_nodes:
            if self.whole.get(source.name) == tuple(value.shape):
                return self.axes[source.name]
        return None
