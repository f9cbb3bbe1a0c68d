"""What a reconstruction has to fit: layers behind a cut, and what the dense network has there."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

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
    """

    node: fx.Node
    norm: fx.Node | None
    residual: fx.Node | None
    target: str
    override: tuple[str, str, str] | None = None


def list_tasks(module: fx.GraphModule, net: Network, plan: Plan) -> Iterator[LayerTask | fx.Node]:
    """List layers to fit, and batch norms by themselves, that lie behind anything that was cut."""
    nodes = [node for node in module.graph.nodes if node.op != "output"]
    order = {node: i for i, node in enumerate(nodes)}
    calls = [node.target for node in nodes if node.op == "call_module"]
    dense = {node.name: node for node in net.module.graph.nodes}
    proxies = _find_proxy_targets(dense, net, plan)
    fitted: set[fx.Node] = set()
    inexact: set[fx.Node] = set()
    for node in nodes:
        layer = get_layer(module, node)
        changed = inexact.intersection(node.all_input_nodes)
        if (
            node.name in proxies
            or changed
            or (layer and _has_fewer_inputs(layer, net.module, node))
        ):
            inexact.add(node)
        if layer is None or node in fitted or calls.count(node.target) > 1:
            continue
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            task = _build_task(module, node, order, proxies)
            if node in inexact or task.target in proxies.values():
                yield task
                fitted.update(n for n in (task.node, task.norm) if n is not None)
                inexact.add(node)
        elif isinstance(layer, BatchNorm) and layer.track_running_stats and changed:
            yield node


def _has_fewer_inputs(layer: nn.Module, dense: nn.Module, node: fx.Node) -> bool:
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        return False
    before = dense.get_submodule(str(node.target)).weight
    assert isinstance(before, Tensor)
    return weight.shape[1] < before.shape[1]


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
    kept = np.ones(len(layer.weight), bool)
    for dim_name, indices in keep.items():
        for slot in net.dims[dim_name].slots:
            if slot.tensor == f"{name}.weight" and slot.axis == 0:
                kept &= (slot.owner < 0) | np.isin(slot.owner, list(indices))
    return torch.from_numpy(np.flatnonzero(kept))
