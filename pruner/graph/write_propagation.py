"""The pass that makes writes through views values of their own, without tracing once more.

A write to a slice is a new tensor, with the slice scattered into what it is a slice of; whoever
reads another view of that memory later takes it from the new tensor. torch's own functionalization
does the same by running the whole graph again on fake tensors, which costs more than the export.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from .ops import DROPOUTS, is_mutable, operator_arguments, operator_name
from .torch_internals import memory_key, operator_schema

aten = torch.ops.aten


class _UnknownViewError(Exception):
    """A write goes through a view that has no inverse here."""


def propagate_writes(
    graph: fx.Graph, kept: set[str], find_twin: Callable[[Any], Any]
) -> fx.Graph | None:
    """Return a copy of an exported graph that writes to no tensor but the kept inputs (buffers).

    ``find_twin`` gives the operator that computes what a writing one writes. None where a write
    has no such twin, or goes through a view other than slices, selections and rearrangements.
    """
    result = fx.Graph()
    memory = _Memory(result, kept, find_twin)
    try:
        for node in graph.nodes:
            memory.put(node)
    except _UnknownViewError:
        return None
    return result


class _Memory:
    """The newest value of every tensor while a graph is copied.

    Attributes:
        parent: View (of the old graph) -> the tensor that it is a view of.
        value: Tensor -> the node of the new graph that holds it, and at which write of its memory.
        writes: Tensor that is no view -> how many writes there were.
        owner: Memory -> the first tensor in it.
        untracked: Tensors of which there are views whose parent is not known.
    """

    def __init__(self, graph: fx.Graph, kept: set[str], find_twin: Callable[[Any], Any]) -> None:
        self.graph, self.kept, self.find_twin = graph, kept, find_twin
        self.parent: dict[fx.Node, fx.Node] = {}
        self.value: dict[fx.Node, tuple[fx.Node, int]] = {}
        self.writes: dict[fx.Node, int] = {}
        self.owner: dict[int, fx.Node] = {}
        self.untracked: set[fx.Node] = set()

    def put(self, node: fx.Node) -> None:
        """Copy one node of the old graph; a write becomes the values that it leaves."""
        source = node.args[0] if node.args else None
        if is_mutable(node):
            assert isinstance(source, fx.Node)
            if self._find_base(source).name not in self.kept:
                self._write(node, source)
                return
        elif (memory := memory_key(node.meta.get("val"))) is not None:
            owner = self.owner.setdefault(memory, node)
            if isinstance(source, fx.Node) and memory == memory_key(source.meta.get("val")):
                self.parent[node] = source
            elif owner is not node:  # one of several results, or an alias that came in
                self.untracked.update((owner, node))
        made = self.graph.node_copy(node, self.read)
        self.value[node] = (made, self._count(node))

    def read(self, node: fx.Node) -> fx.Node:
        """Return what holds a tensor's newest value, viewed anew after a write to its memory."""
        made, at = self.value[node]
        if at == self._count(node):
            return made
        made = self.graph.create_node(
            "call_function", node.target, (self.read(self.parent[node]), *self._rest(node)),
            self._map(node.kwargs),
        )  # fmt: skip
        made.meta = dict(node.meta)
        self.value[node] = (made, self._count(node))
        return made

    def _write(self, node: fx.Node, written: fx.Node) -> None:
        """Compute what a node writes and scatter it up to the memory that it is a view of."""
        twin = self.find_twin(node.target)
        base = self._find_base(written)
        if (
            twin is None
            or base in self.untracked
            or self.owner.get(memory_key(written.meta["val"]) or 0) is not base
        ):
            raise _UnknownViewError
        given = {k: self._map(v) for k, v in operator_arguments(node).items()}
        schema = operator_schema(twin).arguments
        args = tuple(given[a.name] for a in schema if not a.kwarg_only)
        kwargs = {a.name: given[a.name] for a in schema
                  if a.kwarg_only and given[a.name] != a.default_value}  # fmt: skip
        values = [(written, self._call(twin, args, kwargs, node, node.meta.get("val")))]
        while written in self.parent:
            whole = self.parent[written]
            target, rest = self._invert(written, whole)
            scatter = target in (aten.slice_scatter.default, aten.select_scatter.default)
            first = (self.read(whole), values[-1][1]) if scatter else (values[-1][1],)
            made = self._call(target, (*first, *rest), {}, node, whole.meta.get("val"))
            values.append((whole, made))
            written = whole
        self.writes[written] = self.writes.get(written, 0) + 1
        for view, made in values:
            self.value[view] = (made, self.writes[written])
        self.parent[node] = values[0][0]  # the result of a write is what was written to
        self.value[node] = self.value[values[0][0]]

    def _invert(self, view: fx.Node, whole: fx.Node) -> tuple[Any, tuple[Any, ...]]:
        """Return the operator that puts a view's new value back, and its further arguments."""
        name, rest, shape = operator_name(view), self._rest(view), whole.meta["val"].shape
        if view.kwargs and name not in ("slice", "select"):
            raise _UnknownViewError
        if name in ("slice", "select"):
            given = self._map(operator_arguments(view))
            names = ("dim", "start", "end", "step") if name == "slice" else ("dim", "index")
            target = aten.slice_scatter if name == "slice" else aten.select_scatter
            return target.default, tuple(given[n] for n in names)
        if name in ("transpose", "t", "swapaxes") or view.target is aten.alias.default:
            return view.target, rest
        if name in ("detach", "contiguous", "to", *DROPOUTS) or is_mutable(view):
            return aten.alias.default, ()
        if name == "permute":
            dims = [int(d) % len(shape) for d in rest[0]]
            return view.target, ([dims.index(d) for d in range(len(dims))],)
        if name == "unsqueeze":
            return aten.squeeze.dim, (rest[0] % (len(shape) + 1),)
        if name in ("view", "reshape") and all(isinstance(size, int) for size in shape):
            return aten.view.default, (list(shape),)
        raise _UnknownViewError

    def _find_base(self, node: fx.Node) -> fx.Node:
        while node in self.parent:
            node = self.parent[node]
        return node

    def _count(self, node: fx.Node) -> int:
        return self.writes.get(self._find_base(node), 0)

    def _rest(self, node: fx.Node) -> tuple[Any, ...]:
        """Return a node's arguments but the first, as they are in the new graph."""
        return tuple(self._map(argument) for argument in node.args[1:])

    def _map(self, value: Any) -> Any:
        return fx.node.map_arg(value, self.read)

    def _call(self, target: Any, args: Any, kwargs: Any, node: fx.Node, value: Any) -> fx.Node:
        if target is aten.alias.default:
            return args[0]  # type: ignore[no-any-return]
        made = self.graph.create_node("call_function", target, args, kwargs)
        made.meta = {**node.meta, "val": value if isinstance(value, Tensor) else None}
        return made
