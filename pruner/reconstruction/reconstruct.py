"""repair: the weights of a cut network, fitted layer by layer to what the dense one computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, fx, nn

from ..graph import (
    BatchNorm,
    Block,
    StagedExecution,
    batch_norm_scale,
    evaluation_mode,
    find_batch_norm_after,
    get_layer,
    only_user,
    operator_name,
    producer_of,
)
from ..structure import Dim, Plan
from .layer_samples import draw_positions, mark_holdout, sample_inputs, sample_outputs, split_groups
from .ridge import Moments, RidgeFit, fit_ridge


class Dense(Protocol):
    """What repairing needs of a Network: the dense graph, its Dims and Blocks."""

    @property
    def module(self) -> fx.GraphModule: ...
    @property
    def dims(self) -> Mapping[str, Dim]: ...
    @property
    def blocks(self) -> Mapping[str, Block]: ...


@dataclass(frozen=True)
class Task:
    """One layer of the cut network to be fitted.

    node is its call, norm the batch norm right behind it or None. What comes out, plus the value of
    beside where there is one, is to be the dense network's value at target. same are three of the
    dense network's nodes or None: where the second and third agree, which is where an activation
    hides the difference, the value is to be that of the first.
    """

    node: fx.Node
    norm: fx.Node | None
    beside: fx.Node | None
    target: str
    same: tuple[str, str, str] | None = None


def repair(
    module: fx.GraphModule,
    net: Dense,
    plan: Plan,
    batches: Iterable[tuple[Any, Any]],
    *,
    places: int = 128,
    memory_mb: float = 2048,
    layers: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> tuple[str, ...]:
    """Fit every layer that the cut reaches, in the order of execution, without label or gradient.

    For a layer with inputs x in the cut network (the layers before it repaired already), over
    images and places:

        min over W, b of mean |W x + b + s - y|^2 + ridge * mean |x|^2 / size * |W - W_old|^2

    y is what the dense network has at the same spot, kept channels only. Where the layer ends a
    residual branch that spot is the sum, and s the skip connection's value: so a branch makes up
    for what was lost before it, too. Where blocks right behind are dropped, the spot is the last of
    their sums. Reconstruction as in He et al. 2017 (arXiv 1707.06168, eq. 2), from the cut
    network's own inputs, so that errors do not pile up. A batch norm behind the layer takes b, and
    statistics that fit; others' statistics are estimated anew.

    module
        The cut network (`pruner.apply`), changed in place.
    net, plan
        What it was cut from, and how.
    batches
        Calibration images; a fifth of them chooses each layer's ridge. Labels are not looked at.
    places
        Output places used of each image, drawn at random.
    memory_mb
        For the activations that are kept from layer to layer; with less, more is run again.
    layers
        Stop after that many (None: fit all).

    Returns the names of the layers that were fitted.
    """
    inputs = [_arguments(module, x) for x, _ in batches]
    if not inputs:
        return ()
    with evaluation_mode(module, net.module):
        steps = list(_steps(module, net, plan))[:layers]
        ours, theirs = (StagedExecution(m, inputs, memory_mb * 2**19) for m in (module, net.module))
        for done, step in enumerate(steps, 1):
            if isinstance(step, Task):
                kept = _kept_outputs(net, plan.keep, str(step.node.target))
                _fit(module, step, kept, ours, theirs, places)
            else:
                _restate(module, step, ours)
            if progress is not None:
                progress(done, len(steps))
    return tuple(str(step.node.target) for step in steps if isinstance(step, Task))


def _arguments(module: nn.Module, inputs: Any) -> tuple[Tensor, ...]:
    device = next(module.parameters()).device
    return tuple(x.to(device) for x in (inputs if isinstance(inputs, tuple) else (inputs,)))


# ----------------------------------------------------------------------------------- what to fit


def _steps(module: fx.GraphModule, net: Dense, plan: Plan) -> Iterator[Task | fx.Node]:
    """Layers to fit, and batch norms by themselves, that lie behind anything that was cut."""
    nodes = [node for node in module.graph.nodes if node.op != "output"]
    place = {node: i for i, node in enumerate(nodes)}
    calls = [node.target for node in nodes if node.op == "call_module"]
    dense = {node.name: node for node in net.module.graph.nodes}
    stand_in = _stand_ins(dense, net.blocks, plan)
    taken: set[fx.Node] = set()
    inexact: set[fx.Node] = set()
    for node in nodes:
        layer = get_layer(module, node)
        moved = inexact.intersection(node.all_input_nodes)
        if node.name in stand_in or moved or (layer and _lost_inputs(layer, net.module, node)):
            inexact.add(node)
        if layer is None or node in taken or calls.count(node.target) > 1:
            continue
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            task = _task(module, node, place, dense, stand_in)
            if node in inexact or task.target in stand_in.values():
                yield task
                taken.update(n for n in (task.node, task.norm) if n is not None)
                inexact.add(node)
        elif isinstance(layer, BatchNorm) and layer.track_running_stats and moved:
            yield node


def _lost_inputs(layer: nn.Module, dense: nn.Module, node: fx.Node) -> bool:
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        return False
    before = dense.get_submodule(str(node.target)).weight
    assert isinstance(before, Tensor)
    return weight.shape[1] < before.shape[1]


def _task(
    module: fx.GraphModule,
    node: fx.Node,
    place: Mapping[fx.Node, int],
    dense: Mapping[str, fx.Node],
    stand_in: Mapping[str, str],
) -> Task:
    beside = None
    norm = find_batch_norm_after(module, node)
    end = norm or node
    user = only_user(end)
    while user is not None and isinstance(get_layer(module, user), (nn.Dropout, nn.Identity)):
        end, user = user, only_user(user)
    if user is not None and operator_name(user) == "add" and not user.kwargs:
        others = [s for s in user.args[:2] if s is not end]
        if len(others) == 1 and isinstance(others[0], fx.Node) and place[others[0]] < place[node]:
            end, beside = user, others[0]
    target = stand_in.get(end.name, end.name)
    user = only_user(end)
    same = None
    if target != end.name and user is not None and user.name in stand_in:
        same = (end.name, user.name, stand_in[user.name])
    return Task(node, norm, beside, target, same)


_IDEMPOTENT = ("relu", "relu6", "hardtanh", "clamp_min")


def _stand_ins(
    dense: Mapping[str, fx.Node], blocks: Mapping[str, Block], plan: Plan
) -> dict[str, str]:
    """Values of the cut network that stand for a later one of the dense: those before a drop.

    Where a block is dropped, its readers read what skips it; that should be near the block's sum.
    The same holds before and behind an activation that changes nothing when it is applied twice.
    """
    after = {blocks[name].skip: blocks[name].join for name in plan.dropped_blocks()}

    def resolve(name: str) -> str:
        kind = operator_name(dense[name])
        while name in after:
            name = after[name]
            follower = only_user(dense[name])
            if kind in _IDEMPOTENT and follower is not None and operator_name(follower) == kind:
                name = follower.name
        return name

    found = {name: resolve(name) for name in after}
    for name, other in list(found.items()):
        ours, theirs = dense[name], dense[other]
        kind = operator_name(ours)
        if kind in _IDEMPOTENT and operator_name(theirs) == kind:
            found[producer_of(ours).name] = producer_of(theirs).name
    return found


def _kept_outputs(net: Dense, keep: Mapping[str, Iterable[int]], name: str) -> Tensor:
    """Positions of the dense layer's outputs that the cut one still has."""
    layer = net.module.get_submodule(name)
    assert isinstance(layer.weight, Tensor)
    kept = np.ones(len(layer.weight), bool)
    for dim_name, indices in keep.items():
        for slot in net.dims[dim_name].slots:
            if slot.tensor == f"{name}.weight" and slot.axis == 0:
                kept &= (slot.owner < 0) | np.isin(slot.owner, list(indices))
    return torch.from_numpy(np.flatnonzero(kept))


# ------------------------------------------------------------------------------------- the fits


@torch.no_grad()
def _fit(
    module: fx.GraphModule,
    task: Task,
    kept: Tensor,
    ours: StagedExecution,
    theirs: StagedExecution,
    places: int,
) -> None:
    node = task.node
    layer = module.get_submodule(str(node.target))
    norm = None if task.norm is None else module.get_submodule(str(task.norm.target))
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    groups = getattr(layer, "groups", 1)
    outputs, size = len(layer.weight) // groups, layer.weight[0].numel()
    sums = [Moments(groups, size, outputs) for _ in range(2)]
    names = [n.name for n in (producer_of(node), task.beside) if n is not None]
    goals = [task.target, *(task.same or ())]
    both = zip(ours.values(names, node.name), theirs.values(goals, node.name), strict=True)
    for k, (mine, dense) in enumerate(both):
        x, y = mine[producer_of(node).name], dense[task.target]
        if task.same is not None:
            before, first, second = (dense[name] for name in task.same)
            y = torch.where(first == second, before, y)
        at = draw_positions(layer, y, places, node.name, k)
        xs = sample_inputs(layer, x, y.shape, at)
        ys = sample_outputs(layer, y, at)[..., kept.to(y.device)]
        if task.beside is not None:
            ys = ys - sample_outputs(layer, mine[task.beside.name], at)
        fold = mark_holdout(x)
        for part, chosen in zip(sums, (~fold, fold), strict=True):
            if chosen.any():
                part.add(split_groups(xs[chosen], groups), split_groups(ys[chosen], groups))
    weight = layer.weight.double()
    if isinstance(norm, BatchNorm):
        scale = batch_norm_scale(norm)
        weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    old = weight.reshape(groups, outputs, size).mT
    biased = layer.bias is not None or norm is not None
    found = fit_ridge(sums[0], sums[1], old, biased=biased)
    if torch.isfinite(found.weight).all() and torch.isfinite(found.bias).all():
        _write(layer, norm, found)


def _write(layer: nn.Conv2d | nn.Linear, norm: nn.Module | None, found: RidgeFit) -> None:
    """Put a fit into a layer, or into it and the batch norm behind it."""
    weight, bias = found.weight.mT.reshape(layer.weight.shape), found.bias.flatten()
    if not isinstance(norm, BatchNorm):
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(bias)
        return
    scale = batch_norm_scale(norm)
    mean, variance = found.mean.flatten(), found.variance.flatten() / scale.square()
    assert norm.running_mean is not None and norm.running_var is not None
    layer.weight.copy_(weight / scale.view(-1, *[1] * (weight.ndim - 1)))
    if layer.bias is not None:
        layer.bias.zero_()
    norm.running_mean.copy_((mean - bias) / scale)
    norm.running_var.copy_(variance)
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.bias.copy_(mean)


@torch.no_grad()
def _restate(module: fx.GraphModule, node: fx.Node, ours: StagedExecution) -> None:
    """New statistics for a batch norm that is no fitted layer's."""
    norm = module.get_submodule(str(node.target))
    assert isinstance(norm, BatchNorm)
    assert norm.running_mean is not None and norm.running_var is not None
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for found in ours.values([producer_of(node).name], node.name):
        rows = found[producer_of(node).name].double().movedim(1, -1).flatten(0, -2)
        count, total, squares = count + len(rows), total + rows.sum(0), squares + (rows**2).sum(0)
    mean = total / count
    norm.running_mean.copy_(mean)
    norm.running_var.copy_((squares / count - mean.square()).clamp_min(0))
