"""Attention transfer: a student learns its teacher's maps of the activations' energy.

Channels are cut and residual streams rotated, so the activations of the two do not compare channel
by channel. The energy over all channels does, at every position: pruning leaves positions as they
are (Zagoruyko and Komodakis 2017, arXiv 1612.03928).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from ..errors import PrunerError
from ..graph import BatchNorm, evaluation_mode, flatten_arguments

# Layers whose results have their channels at axis 1, and at the last axis.
_CHANNELS_FIRST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, BatchNorm, nn.GroupNorm)
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm)


def find_shared_maps(
    module: nn.Module, teacher: nn.Module, example: Tensor | Sequence[Any]
) -> dict[str, int]:
    """Find activations that both networks have at the same positions, the last of every resolution.

    Args:
        module: A pruned network.
        teacher: The one that it was made from, whose nodes have the same names.
        example: The input of a call, or its arguments one after the other.

    Returns:
        Names of nodes -> the axis of their channels.

    Raises:
        PrunerError: A network is no graph, or they share no activations.
    """
    if not isinstance(module, fx.GraphModule) or not isinstance(teacher, fx.GraphModule):
        raise PrunerError(
            "attention transfer needs networks made by pruner.trace and pruner.apply, whose parts "
            f"have the same names; got {type(module).__name__} and {type(teacher).__name__}"
        )
    arguments = (example,) if isinstance(example, Tensor) else tuple(example)
    student, other = _MapRecorder(module), _MapRecorder(teacher)
    with evaluation_mode(module, teacher), torch.no_grad():
        for recorder in (student, other):
            recorder.run(*arguments, enable_io_processing=False)
    last: dict[tuple[int, ...], str] = {}
    for name, shape in student.positions.items():
        if shape == other.positions.get(name) and len(shape) > 1:
            last[shape] = name
    if not last:
        raise PrunerError(
            "attention transfer: the network and its teacher share no map of more than one place; "
            "set attention to 0"
        )
    return {name: student.axes[name] for name in last.values()}


class ValueRecorder(nn.Module):
    """A network of the same layers that keeps the values of some nodes of its last call."""

    def __init__(self, module: fx.GraphModule, names: Sequence[str]) -> None:
        super().__init__()
        self.module, self._plain = return_values(module, names), (module,)  # no second submodule
        self.values: Sequence[Tensor] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the network's results."""
        (plain,) = self._plain
        results, self.values = self.module(*flatten_arguments(plain, args, kwargs))
        return plain.graph.process_outputs(results)


def return_values(module: fx.GraphModule, names: Sequence[str]) -> fx.GraphModule:
    """Make a network of the same layers that returns (its results, the values of these nodes)."""
    graph = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    results = graph.graph_copy(module.graph, copies)
    by_name = {node.name: copy for node, copy in copies.items()}
    graph.output((results, [by_name[name] for name in names]))
    return fx.GraphModule(module, graph)


def attention_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], axes: Sequence[int]
) -> Tensor:
    """Return the mean over maps and images of ``|q - p|^2``, in [0, 2].

    q and p are the energies of an activation at all positions, as vectors of length 1 (eq. 2 of the
    paper, squared and without its factor). The networks' activations are [n, ...], with channels
    at these axes.
    """
    distances = [
        (_measure_energy(x, axis) - _measure_energy(y, axis)).square().sum(1).mean()
        for x, y, axis in zip(student, teacher, axes, strict=True)
    ]
    return torch.stack(distances).mean()


def _measure_energy(value: Tensor, axis: int) -> Tensor:
    """Return the energy at every position, [n, positions], each row of length 1."""
    return functional.normalize(value.float().square().sum(axis).flatten(1), dim=1)


class _MapRecorder(fx.Interpreter):
    """Runs a graph and records the shapes of all activations whose axis of channels is known."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.axes: dict[str, int] = {}
        self.positions: dict[str, tuple[int, ...]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node and record its value's shape."""
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.is_floating_point() and n.op != "get_attr":
            axis = self._find_channels(n, value)
            if axis is not None and value.ndim > 2:
                self.axes[n.name] = axis
                self.shapes[n.name] = tuple(value.shape)
                sides = (*value.shape[1:axis], *value.shape[axis + 1 :])
                self.positions[n.name] = sides if max(sides) > 1 else ()
        return value

    def _find_channels(self, n: fx.Node, value: Tensor) -> int | None:
        if n.op == "call_module":
            layer = self.fetch_attr(str(n.target))
            if isinstance(layer, _CHANNELS_FIRST):
                return 1
            if isinstance(layer, _CHANNELS_LAST):
                return value.ndim - 1
        same = (s.name for s in n.all_input_nodes if self.shapes.get(s.name) == tuple(value.shape))
        return next((self.axes[name] for name in same), None)
