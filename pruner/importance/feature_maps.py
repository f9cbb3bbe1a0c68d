"""Feature maps of Dims: what the layers that write a Dim hand on, averaged over samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from ..axes import Axis, atoms_of, axis_owners, factors_of, remove_atom, resolve_axis
from ..errors import PrunerError
from ..gates import fold_positions
from ..graph import StagedExecution, find_input_dependent, operator_name
from ..structure import Dim, LocatedCell, Network
from ..tasks import NetworkCalls
from .base import Callback
from .layer_statistics import split_arguments


@dataclass(frozen=True)
class FeatureMap:
    """A value of the graph along one axis of which the indices of a Dim lie.

    Attributes:
        dim: The Dim.
        cell: The Cell that computes the value.
        node: The value's name in the graph.
        axis: The axis that holds the Dim.
        batch: The axis that counts the samples, and how many positions of other things lie before
            and behind each sample along it (windows, heads); None where there is no such axis.
        owner: [axis size, without the samples] int: the Dim's index of every position, or -1.
    """

    dim: str
    cell: str
    node: str
    axis: int
    batch: tuple[int, int, int] | None
    owner: NDArray[np.int64]

    def sum_samples(self, value: Tensor) -> tuple[Tensor, int]:
        """Sum a value over its samples: float64 [positions of the axis, other positions], count."""
        axis, value = self.axis, value.double()
        if self.batch is None:
            return value.movedim(axis, 0).flatten(1), 1
        place, before, behind = self.batch
        split = value.unflatten(place, (before, -1, behind))
        count = split.shape[place + 1]
        total = split.sum(place + 1).flatten(place, place + 1)
        return total.movedim(axis, 0).flatten(1), count

    def fold(self, values: Tensor, size: int) -> Tensor:
        """Sum [positions of the axis, other positions] onto the Dim's indices: [size]."""
        return fold_positions(values.sum(1)[None].cpu(), self.owner, size)[0]


def find_feature_maps(net: Network) -> list[FeatureMap]:
    """Find the maps of every Dim: the values that the Cells which write it hand on.

    A Cell is an operator with the batch norm, activation and sum that follow it. What others read
    of it are its maps, if they have the Dim along one axis: one of a convolution, three of a fused
    projection to queries, keys and values. A residual stream has those of all layers that add to
    it. Where others read nothing that has the Dim, it is the last value that does. Values that do
    not depend on the inputs are none.
    """
    graph = net.program.graph
    places = {node: i for i, node in enumerate(graph.nodes)}
    by_name = {node.name: node for node in places}
    live = find_input_dependent(graph)
    known = {node.name for node in net.module.graph.nodes}
    found: list[FeatureMap] = []
    for dim in net.dims.values():
        for located in find_writing_cells(net, dim):
            own = _list_results([by_name[name] for name in located.nodes & by_name.keys()])
            nodes = sorted((n for n in own if n in live and n.name in known),
                           key=places.__getitem__)  # fmt: skip
            maps = [(n, _describe_map(net, dim, located, n)) for n in nodes]
            having = [(node, one) for node, one in maps if one is not None]
            outer = [one for node, one in having if _is_read_outside(node, own, live)]
            found.extend(outer or [one for _, one in having[-1:]])
    return found


def _list_results(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Return nodes with those that take one of several results of theirs."""
    found, pending = set(), list(nodes)
    while pending:
        node = pending.pop()
        found.add(node)
        pending += [u for u in node.users if operator_name(u) == "getitem" and u not in found]
    return found


def _is_read_outside(node: fx.Node, own: set[fx.Node], live: set[fx.Node]) -> bool:
    """Return whether what is not a Cell's own, or the network's result, reads a value of it."""
    return any(u.op == "output" or (u in live and u not in own) for u in node.users)


def find_writing_cells(net: Network, dim: Dim) -> list[LocatedCell]:
    """Return the Cells whose operators write a Dim by weights, in the order of execution."""
    written = {slot.tensor for slot in dim.slots if slot.role == "out"}
    readers: set[str] = set()
    for node in net.axis_map.tensor_nodes():
        if str(node.target) in written:
            users = [user.name for user in node.users]
            readers.update(net.axis_map.readers.get(str(node.target), users))
    return [located for located in net.located if readers & located.nodes]


def _describe_map(net: Network, dim: Dim, located: LocatedCell, node: fx.Node) -> FeatureMap | None:
    """Return a value as a map of a Dim; None where no axis, or several, hold the Dim."""
    axes = net.axis_map.axes.get(node)
    if not axes or isinstance(axes[0], list) or not isinstance(node.meta.get("shape"), tuple):
        return None
    atom, batch = net.atoms[dim.name], resolve_axis(net.axis_map.batch)
    places = [k for k, axis in enumerate(axes) if atom in atoms_of(axis)]
    if len(places) != 1:
        return None
    (place,) = places
    counted = [k for k, axis in enumerate(axes) if any(a is batch for a in atoms_of(axis))]
    if len(counted) > 1:
        return None
    samples = None
    if counted:
        around = _split_at_batch(axes[counted[0]], batch)
        if around is None:
            return None
        samples = (counted[0], *around)
    rest = remove_atom(axes[place], net.axis_map.batch)
    owner = axis_owners(rest).get(atom)
    if owner is None:
        return None
    return FeatureMap(dim.name, located.cell.name, node.name, place, samples, owner)


def _split_at_batch(axis: Axis, batch: Axis) -> tuple[int, int] | None:
    """Return how many positions lie before and behind the batch in a product; None in a sum."""
    factors = factors_of(axis)
    at = next((k for k, factor in enumerate(factors) if factor is batch), None)
    if at is None:
        return None
    return prod(f.size for f in factors[:at]), prod(f.size for f in factors[at + 1 :])


def count_runs(calls: NetworkCalls) -> int:
    """Return how often `average_maps` runs the network on these calls."""
    return sum(len(split_arguments(arguments)) for arguments in calls.arguments)


@torch.no_grad()
def average_maps(
    net: Network, maps: Sequence[FeatureMap], calls: NetworkCalls, domain: str,
    progress: Callback = None,
) -> list[Tensor]:  # fmt: skip
    """Average maps over samples: of each float64 [positions of its axis, other positions].

    Args:
        net: In evaluation mode.
        maps: What to average.
        calls: What the network is called with.
        domain: Where the samples are from, for messages.
        progress: Called with (runs done, None).

    Raises:
        PrunerError: Maps of one layer differ in size, or hold values that are not finite.
    """
    inputs = [chunk for arguments in calls.arguments for chunk in split_arguments(arguments)]
    sums: list[Tensor | None] = [None] * len(maps)
    counts = [0] * len(maps)
    names = {one.node for one in maps}
    values: Mapping[str, Any]
    for done, values in enumerate(StagedExecution(net.module, inputs).values(names), 1):
        for k, one in enumerate(maps):
            total, count = one.sum_samples(values[one.node])
            before = sums[k]
            if before is not None and before.shape != total.shape:
                raise PrunerError(
                    f"{domain} samples give maps of different sizes at {one.node} "
                    f"({tuple(before.shape)} and {tuple(total.shape)}): maps are compared position "
                    "by position, so all inputs must have one size"
                )
            sums[k] = total if before is None else before + total
            counts[k] += count
        if progress is not None:
            progress(done, None)
    means = [total / count for total, count in zip(sums, counts, strict=True) if total is not None]
    for one, mean in zip(maps, means, strict=True):
        if not bool(mean.isfinite().all()):
            raise PrunerError(
                f"{domain} samples: values at {one.node} are not finite (a diverged network?)"
            )
    return means
