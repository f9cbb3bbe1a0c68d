"""What a reconstruction has to fit: layers behind a cut, and what the dense network has there."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, fx, nn

from ..graph import (
    BatchNorm,
    find_batch_norm_after,
    get_layer,
    only_user,
    operator_name,
    producer_of,
)
from ..structure import Network, Plan


@dataclass(frozen=True)
class LayerTask:
    """One layer of the cut network to be fitted.

    Attributes:
        node: The layer's call.
        norm: The batch norm right behind it.
        residual: What is added to the output: the fitted value is their sum.
        target: The dense network's node whose value the sum is to have.
        override: Three nodes of the dense network: where the second and third agree, which is where
            an activation hides the difference, the value is to be that of the first.
        others: The layer's further calls (a backbone of two images, refinement in rounds): the fit
            is to all of them together, at the first one's place.
    """

    node: fx.Node
    norm: fx.Node | None
    residual: fx.Node | None
    target: str
    override: tuple[str, str, str] | None = None
    others: tuple["LayerTask", ...] = ()

    def list_calls(self) -> tuple["LayerTask", ...]:
        """Return one task for every call."""
        return (self, *self.others)


def list_tasks(
    module: fx.GraphModule, net: Network, plan: Plan
) -> Iterator[LayerTask | tuple[fx.Node, ...]]:
    """List layers to fit, and calls of batch norms by themselves, behind anything that was cut."""
    nodes = [node for node in module.graph.nodes if node.op != "output"]
    order = {node: i for i, node in enumerate(nodes)}
    calls: dict[str, list[fx.Node]] = defaultdict(list)
    for node in nodes:
        if node.op == "call_module":
            calls[str(node.target)].append(node)
    dense = {node.name: node for node in net.module.graph.nodes}
    proxies = _find_proxy_targets(dense, net, plan)
    fitted: set[fx.Node] = set()
    reached = _find_inexact(nodes, module, net, proxies)
    inexact: set[fx.Node] = set()
    for node in nodes:
        layer = get_layer(module, node)
        changed = inexact.intersection(node.all_input_nodes)
        if _is_inexact(node, layer, net, proxies, inexact):
            inexact.add(node)
        if layer is None or node in fitted:
            continue
        same = calls[str(node.target)]
        again = reached if len(same) > 1 else inexact  # what later calls read is not settled yet
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            task = _build_shared_task(module, same, order, proxies)
            targets = {call.target for call in task.list_calls()}
            if again.intersection(same) or targets.intersection(proxies.values()):
                yield task
                # of several norms behind one layer the fit is to what they read: statistics stay
                norms = [find_batch_norm_after(module, call) for call in same]
                fitted.update((*same, *(norm for norm in norms if norm is not None)))
                inexact.update(same)
            continue
        read = changed if len(same) == 1 else again.intersection(_list_inputs(same))
        if isinstance(layer, BatchNorm) and layer.track_running_stats and read:
            yield tuple(same)
            fitted.update(same)


def _list_inputs(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Return the nodes that any of these read."""
    return {source for node in nodes for source in node.all_input_nodes}


def _is_inexact(
    node: fx.Node,
    layer: nn.Module | None,
    net: Network,
    proxies: Mapping[str, str],
    inexact: set[fx.Node],
) -> bool:
    """Return whether a node's value differs from the dense network's, since inputs of it do."""
    return (
        node.name in proxies
        or not inexact.isdisjoint(node.all_input_nodes)
        or (layer is not None and _has_fewer_inputs(layer, net.module, node))
    )


def _find_inexact(
    nodes: list[fx.Node], module: fx.GraphModule, net: Network, proxies: Mapping[str, str]
) -> set[fx.Node]:
    """Return the nodes whose values differ from the dense network's before anything is fitted."""
    inexact: set[fx.Node] = set()
    for node in nodes:
        if _is_inexact(node, get_layer(module, node), net, proxies, inexact):
            inexact.add(node)
    return inexact


def _has_fewer_inputs(layer: nn.Module, dense: nn.Module, node: fx.Node) -> bool:
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        return False
    before = dense.get_submodule(str(node.target)).weight
    assert isinstance(before, Tensor)
    return weight.shape[1] < before.shape[1]


def _build_shared_task(
    module: fx.GraphModule,
    calls: list[fx.Node],
    order: Mapping[fx.Node, int],
    proxies: Mapping[str, str],
) -> LayerTask:
    """Return the task of all calls of a layer; a batch norm counts that is behind each of them."""
    first, *others = (_build_task(module, call, order, proxies) for call in calls)
    norms = {task.norm and task.norm.target for task in (first, *others)}
    if others and (len(norms) > 1 or not _follows_all(module, first.norm, calls)):
        first, *others = (LayerTask(call, None, None, call.name) for call in calls)
    return replace(first, others=tuple(others))


def _follows_all(module: fx.GraphModule, norm: fx.Node | None, calls: list[fx.Node]) -> bool:
    """Return whether a batch norm is called behind these calls only."""
    if norm is None:
        return True
    own = [node for node in module.graph.nodes if node.target == norm.target]
    return {producer_of(node) for node in own} == set(calls)


def _build_task(
    module: fx.GraphModule, node: fx.Node, order: Mapping[fx.Node, int], proxies: Mapping[str, str]
) -> LayerTask:
    """Find the batch norm behind a layer, the residual sum that it ends in, and its target."""
    residual = None
    norm = find_batch_norm_after(module, node)
    end = norm or node
    user = only_user(end)
    while user is not None and isinstance(get_layer(module, user), (nn.Dropout, nn.Identity)):
        end, user = user, only_user(user)
    if user is not None and operator_name(user) == "add" and not user.kwargs:
        others = [s for s in user.args[:2] if s is not end]
        if len(others) == 1 and isinstance(others[0], fx.Node) and order[others[0]] < order[node]:
            end, residual = user, others[0]
    target = proxies.get(end.name, end.name)
    user = only_user(end)
    override = None
    if target != end.name and user is not None and user.name in proxies:
        override = (end.name, user.name, proxies[user.name])
    return LayerTask(node, norm, residual, target, override)


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


def find_kept_outputs(net: Network, keep: Mapping[str, Iterable[int]], name: str) -> Tensor:
    """Return the positions [kept] of the dense layer's outputs that the cut one still has."""
    layer = net.module.get_submodule(name)
    assert isinstance(layer.weight, Tensor)
    weight = net.program.tied.get(f"{name}.weight", f"{name}.weight")
    kept = np.ones(len(layer.weight), bool)
    for dim_name, indices in keep.items():
        for slot in net.dims[dim_name].slots:
            if slot.tensor == weight and slot.axis == 0:
                kept &= (slot.owner < 0) | np.isin(slot.owner, list(indices))
    return torch.from_numpy(np.flatnonzero(kept))
