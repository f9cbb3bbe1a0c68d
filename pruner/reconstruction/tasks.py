"""What a reconstruction has to fit: reads behind a cut, and what the dense network has there."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from torch import fx, nn

from ..graph import (
    BatchNorm,
    find_input_dependent,
    get_layer,
    only_user,
    operator_name,
    producer_of,
)
from ..structure import Network, Plan
from .cut_axes import CutAxes
from .layout_chains import LayoutChain, find_reader, follow_layout
from .linear_reads import LinearRead, Shapes, find_norm, find_reads, get_shapes
from .logit_fits import LogitTask
from .product_tasks import list_product_tasks
from .value_fits import ValueTask
from .weight_views import WeightViews


@dataclass(frozen=True)
class LayerTask:
    """One read of the cut network to be fitted.

    Attributes:
        read: What reads, and by which weight.
        norm: The batch norm right behind it.
        residual: What is added to the output: the fitted value is their sum.
        target: The dense network's node whose value the sum is to have.
        override: Three nodes of the dense network: where the second and third agree, which is where
            an activation hides the difference, the value is to be that of the first.
        others: The layer's further calls (a backbone of two images, refinement in rounds): the fit
            is to all of them together, at the first one's place.
        chain: From the output to the sum, where the operators between move its numbers, or
            multiply them by constants (a layer's scale).
    """

    read: LinearRead
    norm: fx.Node | None
    residual: fx.Node | None
    target: str
    override: tuple[str, str, str] | None = None
    others: tuple["LayerTask", ...] = ()
    chain: LayoutChain | None = None

    @property
    def node(self) -> fx.Node:
        """The operator's call."""
        return self.read.node

    @property
    def reads(self) -> tuple[LinearRead, ...]:
        """What is fitted."""
        return (self.read,)

    def list_calls(self) -> tuple["LayerTask", ...]:
        """Return one task for every call."""
        return (self, *self.others)


FitTask: TypeAlias = LayerTask | LogitTask | ValueTask | tuple[fx.Node, ...]
"""A read to fit, a product of two, or the calls of a batch norm whose statistics are to be new."""


@dataclass(frozen=True)
class FitTasks:
    """What a cut reaches.

    Attributes:
        tasks: In the order of execution.
        left: What reads what was cut, or what differs, and is not fitted, with the reason.
    """

    tasks: tuple[FitTask, ...]
    left: Mapping[str, str]


def list_tasks(module: fx.GraphModule, net: Network, plan: Plan) -> FitTasks:
    """List what is to be fitted behind anything that was cut, and what cannot be."""
    return _TaskFinder(module, net, plan).find()


class _TaskFinder:
    """Goes through a cut network front to back, and says what differs from the dense one."""

    def __init__(self, module: fx.GraphModule, net: Network, plan: Plan) -> None:
        self.module, self.cut = module, CutAxes(net, plan)
        self.nodes = [node for node in module.graph.nodes if node.op != "output"]
        self.order = {node: i for i, node in enumerate(self.nodes)}
        dense = {node.name: node for node in net.module.graph.nodes}
        self.proxies = _find_proxy_targets(dense, net, plan)
        self.shapes: Shapes = get_shapes(net)
        self.views = WeightViews(module)
        self.reads = dict(find_reads(module, self.views, self.shapes))
        self.same: dict[Any, list[LinearRead]] = defaultdict(list)
        for read in (read for found in self.reads.values() for read in found):
            self.same[read.key].append(read)
        self.norms: dict[str, list[fx.Node]] = defaultdict(list)
        for node in self.nodes:
            if isinstance(get_layer(module, node), BatchNorm):
                self.norms[str(node.target)].append(node)
        self.reached = self._find_reached()
        self.live = find_input_dependent(module.graph)
        self.products = list_product_tasks(module, net, self.cut, self.views, self.same)

    def find(self) -> FitTasks:
        """Return the tasks, and what is left."""
        self.inexact: set[fx.Node] = set()
        self.done: set[Any] = set()
        self.left: dict[str, str] = {}
        tasks: list[FitTask] = []
        for node in self.nodes:
            changed = self.inexact.intersection(node.all_input_nodes)
            if self._differs(node, self.inexact):
                self.inexact.add(node)
            for read in self.reads.get(node, ()):
                if read.key not in self.done and (task := self._make_task(read)) is not None:
                    tasks.append(task)
            tasks += self.products.get(node, ())
            if node not in self.reads:
                if not self.views.is_view(node):
                    self._note_left(node)
                tasks += self._list_statistics(node, changed)
        return FitTasks(tuple(tasks), self.left)

    def _differs(self, node: fx.Node, inexact: set[fx.Node]) -> bool:
        """Return whether a node's value differs from the dense network's kept part of it."""
        return (
            node.name in self.proxies
            or not inexact.isdisjoint(node.all_input_nodes)
            or self.cut.reads_cut(node.name)
        )

    def _find_reached(self) -> set[fx.Node]:
        """Return the nodes whose values differ before anything is fitted."""
        found: set[fx.Node] = set()
        for node in self.nodes:
            if self._differs(node, found):
                found.add(node)
        return found

    def _make_task(self, read: LinearRead) -> LayerTask | None:
        """Return the task of all calls of a read's layer, if the cut reaches one."""
        same = self.same[read.key]
        nodes = [one.node for one in same]
        # What later calls read is not settled yet.
        again = self.reached if len(same) > 1 else self.inexact
        task = self._build_shared_task(same)
        targets = {call.target for call in task.list_calls()}
        if not again.intersection(nodes) and not targets.intersection(self.proxies.values()):
            return None
        readers = {*nodes, *(one.result for one in same)}
        others = self.views.list_other_readers(read.weight, readers)
        if read.bias is not None:
            others += self.views.list_other_readers(read.bias, readers)
        if others:
            self.left[read.name] = f"{_describe(others[0])} reads its weight, too"
            return None
        # Of several norms behind one layer the fit is to what they read: statistics stay.
        norms = [self._find_norm(one) for one in same]
        self.done.update((read.key, *(norm for norm in norms if norm is not None)))
        self.inexact.update((*nodes, *(one.result for one in same)))
        return task

    def _find_norm(self, read: LinearRead) -> fx.Node | None:
        return find_norm(self.module, read, self.shapes)

    def _note_left(self, node: fx.Node) -> None:
        """Note an operator that reads a cut axis by weights, but is no read that can be fitted."""
        for name in self.cut.list_reading_weights(node.name):
            self.left.setdefault(name, f"{_describe(node)} is not linear in it, or computes it")

    def _list_statistics(self, node: fx.Node, changed: set[fx.Node]) -> list[FitTask]:
        """Return the calls of a batch norm that follows no fitted read, if its inputs differ."""
        layer = get_layer(self.module, node)
        if not isinstance(layer, BatchNorm) or not layer.track_running_stats or node in self.done:
            return []
        same = self.norms[str(node.target)]
        read = changed if len(same) == 1 else self.reached.intersection(_list_inputs(same))
        if not read:
            return []
        self.done.update(same)
        return [tuple(same)]

    def _build_shared_task(self, reads: list[LinearRead]) -> LayerTask:
        """Return the task of all calls of a layer; a batch norm counts that is behind each."""
        first, *others = map(self._build_task, reads)
        norms = {task.norm and task.norm.target for task in (first, *others)}
        nodes = [read.result for read in reads]
        scaled = any(task.chain is not None and task.chain.scales for task in (first, *others))
        if others and (scaled or len(norms) > 1 or not self._follows_all(first.norm, nodes)):
            first, *others = (LayerTask(read, None, None, read.result.name) for read in reads)
        return replace(first, others=tuple(others))

    def _follows_all(self, norm: fx.Node | None, calls: list[fx.Node]) -> bool:
        """Return whether a batch norm is called behind these calls only."""
        if norm is None:
            return True
        return {producer_of(node) for node in self.norms[str(norm.target)]} == set(calls)

    def _build_task(self, read: LinearRead) -> LayerTask:
        """Find the batch norm behind a read, the residual sum that it ends in, and its target."""
        node, chain = read.node, None
        residual: fx.Node | None = None
        if read.step is not None:
            return LayerTask(read, None, None, node.name)
        norm = self._find_norm(read)
        end = norm or read.result
        user = only_user(end)
        while user is not None and isinstance(
            get_layer(self.module, user), nn.Dropout | nn.Identity
        ):
            end, user = user, only_user(user)
        moved = follow_layout(self.module, end, self.live, self.shapes)
        if norm is not None and moved.scales:
            moved = LayoutChain(end, ())
        last, user = moved.end, find_reader(moved.end)
        if user is not None and operator_name(user) == "add" and not user.kwargs:
            others = [s for s in user.args[:2] if s is not last]
            if len(others) == 1 and self._may_be_residual(others[0], node, last, user):
                end, residual = user, others[0]  # type: ignore[assignment]
                chain = moved if moved.moves else None
        target = self.proxies.get(end.name, end.name)
        user = only_user(end)
        override = None
        if target != end.name and user is not None and user.name in self.proxies:
            override = (end.name, user.name, self.proxies[user.name])
        return LayerTask(read, norm, residual, target, override, chain=chain)

    def _may_be_residual(self, other: Any, node: fx.Node, last: fx.Node, joined: fx.Node) -> bool:
        """Return whether the other summand is known before a read, whose shape the sum has."""
        if not isinstance(other, fx.Node) or self.order[other] >= self.order[node]:
            return False
        return self.shapes.get(joined.name) == self.shapes.get(last.name)


def _describe(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else f"operator {operator_name(node)}"


def _list_inputs(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Return the nodes that any of these read."""
    return {source for node in nodes for source in node.all_input_nodes}


_IDEMPOTENT = ("relu", "relu6", "hardtanh", "clamp_min")


def _find_proxy_targets(dense: Mapping[str, fx.Node], net: Network, plan: Plan) -> dict[str, str]:
    """Map values of the cut network to later ones of the dense that they are to come near.

    Where a block is dropped, its readers read what skips it; that should be near the block's sum.
    The same holds before and behind an activation that changes nothing when it is applied twice.
    """
    dropped = [net.blocks[name] for name in plan.dropped_blocks()]
    after = {block.skip: block.join for block in dropped}

    def resolve(name: str) -> str:
        kind = operator_name(dense[name])
        while name in after:
            name = after[name]
            follower = only_user(dense[name])
            if kind in _IDEMPOTENT and follower is not None and operator_name(follower) == kind:
                name = follower.name
        return name

    proxies = {name: resolve(name) for name in after}
    for name, other in list(proxies.items()):
        kind = operator_name(dense[name])
        if kind in _IDEMPOTENT and operator_name(dense[other]) == kind:
            proxies[producer_of(dense[name]).name] = producer_of(dense[other]).name
    return proxies
