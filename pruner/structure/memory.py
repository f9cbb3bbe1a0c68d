"""The memory that an inference takes: weights, and the activations alive at each operator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from ..axes import Axis, axis_size
from ..graph import FakeTensorMode, is_repeated
from .allocations import Allocation, Clause, list_weights
from .network import Network
from .residual_blocks import index_blocks


@dataclass(frozen=True)
class MemoryPoint:
    """An operator that allocates, and all activations that are alive while it runs.

    It runs, and its allocations count, while all of ``blocks`` are kept.
    """

    name: str
    blocks: tuple[str, ...]
    live: tuple[Allocation, ...]


def count_memory(
    net: Network,
    sizes: Mapping[str, int] | None = None,
    dropped: Sequence[str] = (),
    points: Sequence[MemoryPoint] | None = None,
) -> int:
    """Return the peak bytes of an inference: all weights, and the activations alive at once.

    The graph runs operator by operator, in its order, at the batch of the example inputs. For many
    structures give its points, by `find_memory_points`.
    """
    by_atom = {net.atoms[name]: n for name, n in (sizes or {}).items()}
    by_atom[net.axis_map.batch] = get_batch_size(net)

    def add_up(allocations: Sequence[Allocation]) -> int:
        return sum(
            one.item_bytes * prod(axis_size(axis, by_atom) for axis in one.axes)
            for one in allocations
            if one.is_present(dropped)
        )

    peaks = [
        add_up(point.live)
        for point in (find_memory_points(net) if points is None else points)
        if not set(dropped).intersection(point.blocks)
    ]
    return add_up(list_weights(net)) + max(peaks, default=0)


def get_batch_size(net: Network) -> int:
    """Return the batch of the example inputs; 1 where no axis of theirs is the batch."""
    placeholders = [n for n in net.axis_map.program.graph.nodes if n.op == "placeholder"]
    for node, value in zip(placeholders, net.inputs, strict=False):
        if isinstance(value, Tensor):
            for axis, size in zip(net.axis_map.all_axes(node), value.shape, strict=False):
                if axis is net.axis_map.batch:
                    return int(size)
    return net.fixed_batch or 1


def find_memory_points(net: Network) -> tuple[MemoryPoint, ...]:
    """Return what is alive at every operator that allocates.

    A result is alive from the operator that makes it to the last that reads it or a view of it;
    the network's results to the end. What is a view is found by running the graph on shapes. Where
    a Block is dropped its operators are gone, and its join is the skip connection.
    """
    lives = _Lives(net)
    return tuple(
        MemoryPoint(lives.order[i].name, lives.blocks_of(lives.order[i].name), lives.at(i))
        for i in sorted({i for i, _, _ in lives.made.values()})
    )


class _Lives:
    """When the activations of the dense network begin and end, and what Blocks they depend on."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.order = [node for node in net.module.graph.nodes if node.op != "output"]
        self.axes = {node.name: net.axis_map.axes.get(node) for node in net.axis_map.axes}
        self.around = index_blocks(net.blocks)
        # node -> the Block that leaves another in its place where it is dropped, and that other
        self.replaced = _find_replaced(net)
        place = {node: i for i, node in enumerate(self.order)}
        self.made: dict[int, tuple[int, int, Tensor]] = {}  # storage -> operator, result, value
        self.owner: dict[str, int] = {}  # node -> the storage of its (first) result
        self.readers: dict[int, dict[str, int]] = defaultdict(dict)  # storage -> node -> its place
        weights: set[int] = set()
        for node, value in _run_on_shapes(net).items():
            for j, tensor in _list_tensors(value):
                storage = tensor.untyped_storage()._cdata
                if node.op == "get_attr":
                    weights.add(storage)
                if storage in weights:
                    continue
                self.made.setdefault(storage, (place[node], j, tensor))
                self.owner.setdefault(node.name, storage)
                for user in node.users:
                    self.readers[storage][user.name] = place.get(user, len(self.order))

    def blocks_of(self, node: str) -> tuple[str, ...]:
        """Return the Blocks that must be kept for an operator to run."""
        block, _ = self.replaced.get(node, (None, None))
        around = self.around.get(node, ())
        return around if block is None or block in around else (*around, block)

    def blocks_around(self, node: str) -> tuple[str, ...]:
        """Return the Blocks that must be kept for a node, or what is in its place, to be there."""
        block, _ = self.replaced.get(node, (None, None))
        return tuple(name for name in self.around.get(node, ()) if name != block)

    def at(self, i: int) -> tuple[Allocation, ...]:
        """Return what is alive while the i-th operator runs."""
        live = [
            storage
            for storage, (first, _, _) in self.made.items()
            if first <= i and max(self.readers[storage].values(), default=first) >= i
        ]
        result = []
        for k, storage in enumerate(live):
            first, j, tensor = self.made[storage]
            name = self.order[first].name
            later = [node for node, at in self.readers[storage].items() if at >= i and at > first]
            clauses: list[Clause] = [(self.blocks_around(name),)]
            if first < i:
                clauses.append(tuple(self.blocks_around(node) for node in later))
            clauses += (self._tell_apart(storage, other) for other in live[:k])
            needed = tuple(dict.fromkeys(c for c in clauses if c and () not in c))
            axes, item_bytes = self._axes_of_result(name, j, tensor)
            result.append(Allocation(name, axes, item_bytes, needed))
        return tuple(result)

    def _tell_apart(self, storage: int, other: int) -> Clause:
        """Return a clause that is true where two storages are not one; empty: always."""
        one, two = dict(self._follow(storage)), dict(self._follow(other))
        shared = next((s for s in one if s in two), None)
        if shared is None:
            return ()
        return tuple((block,) for block in dict.fromkeys(one[shared] + two[shared]))

    def _follow(self, storage: int) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Yield the storages that may stand in the place of one, with the Blocks dropped then."""
        gone: tuple[str, ...] = ()
        while True:
            yield storage, gone
            name = self.order[self.made[storage][0]].name
            block, source = self.replaced.get(name, (None, None))
            if block is None or source not in self.owner:
                return
            gone, storage = (*gone, block), self.owner[source]

    def _axes_of_result(self, name: str, j: int, tensor: Tensor) -> tuple[tuple[Axis, ...], int]:
        axes = self.axes.get(name)
        if axes and isinstance(axes[0], list):
            axes = axes[j]
        if axes is None or len(axes) != tensor.ndim:
            return (), tensor.nbytes  # its size is the same in all structures
        return tuple(axes), tensor.element_size()


def _find_replaced(net: Network) -> dict[str, tuple[str, str]]:
    """Return node -> the Block in whose absence another node is in its place, and that node."""
    result = {block.join: (block.name, block.skip) for block in net.blocks.values()}
    by_name = {node.name: node for node in net.program.graph.nodes}
    for block in net.blocks.values():
        for reader in by_name[block.join].users:
            if is_repeated(reader, by_name[block.skip]):
                result.setdefault(reader.name, (block.name, block.skip))
    return result


def _run_on_shapes(net: Network) -> dict[fx.Node, Any]:
    """Return the values of all nodes as tensors without numbers, views sharing their storage."""
    interpreter = fx.Interpreter(net.module, garbage_collect_values=False)
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        interpreter.run(
            *(mode.from_tensor(x) if isinstance(x, Tensor) else x for x in net.inputs),
            enable_io_processing=False,
        )
    return {node: value for node, value in interpreter.env.items() if node.op != "output"}


def _list_tensors(value: Any) -> Iterator[tuple[int, Tensor]]:
    """Yield the tensors of an operator's result with their places."""
    values = value if isinstance(value, (tuple, list)) else [value]
    for j, one in enumerate(values):
        if isinstance(one, Tensor):
            yield j, one
