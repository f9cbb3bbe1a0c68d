"""``repair``: reconstruct a cut network, layer by layer, from what the dense one computes."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, fx, nn

from ..data import Batch
from ..graph import (
    BatchNorm,
    StagedExecution,
    batch_norm_scale,
    evaluation_mode,
    producer_of,
)
from ..structure import Network, Plan
from ..tasks import NetworkCalls, Task
from .layer_samples import draw_positions, mark_holdout, sample_inputs, sample_outputs, split_groups
from .ridge import Moments, RidgeFit, fit_ridge
from .tasks import LayerTask, find_kept_outputs, list_tasks


def repair(
    module: fx.GraphModule,
    net: Network,
    plan: Plan,
    batches: Iterable[Batch] | NetworkCalls,
    *,
    task: Task | None = None,
    spatial_samples: int = 128,
    memory_mb: float = 2048,
    layers: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    places: int | None = None,
) -> tuple[str, ...]:
    """Refit every layer that a cut reaches, in the order of execution, without label or gradient.

    For a layer with inputs x in the cut network (the layers before it refitted already), over
    images and positions:

        min over W, b of mean |W x + b + s - y|^2 + ridge * mean |x|^2 / size * |W - W_old|^2

    y is what the dense network has there, kept channels only. Where the layer ends a residual
    branch, y is the sum and s the skip connection's value, so that a branch makes up for what was
    lost before it; where blocks right behind are dropped, y is the last of their sums. This is
    layer-wise reconstruction (He et al. 2017, arXiv 1707.06168, eq. 2) from the cut network's own
    inputs, so that errors do not pile up. A batch norm behind the layer takes b and the statistics
    that fit; the statistics of other batch norms are estimated anew. A layer that is called
    several times is fitted once, to all of its calls.

    Args:
        module: The cut network (`pruner.apply`), changed in place.
        net: The network that it was cut from.
        plan: How it was cut.
        batches: Calibration samples and targets, which are not looked at, or what the network is
            called with on them; a fifth of the samples chooses each layer's ridge.
        task: Calls the network (None: with the inputs as its arguments).
        spatial_samples: Output positions used of each sample, drawn at random.
        memory_mb: For activations kept from layer to layer; with less, more is run again.
        layers: Stop after that many (None: fit all).
        progress: Called with the layers done and their number.
        places: The former name of spatial_samples.

    Returns:
        The names of the layers that were fitted.
    """
    samples = spatial_samples if places is None else places
    inputs = NetworkCalls.record(task or Task(), net.module, batches).arguments
    if not inputs:
        return ()
    with evaluation_mode(module, net.module):
        fits = list(list_tasks(module, net, plan))[:layers]
        cut, dense = (StagedExecution(m, inputs, memory_mb * 2**19) for m in (module, net.module))
        for done, fit in enumerate(fits, 1):
            if isinstance(fit, LayerTask):
                kept = find_kept_outputs(net, plan.keep, str(fit.node.target))
                _fit_layer(module, fit, kept, cut, dense, samples)
            else:
                _estimate_statistics(module, fit, cut)
            if progress is not None:
                progress(done, len(fits))
    return tuple(str(fit.node.target) for fit in fits if isinstance(fit, LayerTask))


@torch.no_grad()
def _fit_layer(
    module: fx.GraphModule,
    task: LayerTask,
    kept: Tensor,
    cut: StagedExecution,
    dense: StagedExecution,
    spatial_samples: int,
) -> None:
    """Refit one layer to the dense network's outputs of indices ``kept``."""
    node = task.node
    layer = module.get_submodule(str(node.target))
    norm = None if task.norm is None else module.get_submodule(str(task.norm.target))
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    groups = getattr(layer, "groups", 1)
    outputs, size = len(layer.weight) // groups, layer.weight[0].numel()
    train, held_out = (Moments(groups, size, outputs) for _ in range(2))
    calls = task.list_calls()
    names = {producer_of(call.node).name for call in calls}
    names |= {call.residual.name for call in calls if call.residual is not None}
    targets = {name for call in calls for name in (call.target, *(call.override or ()))}
    both = zip(cut.values(names, node.name), dense.values(targets, node.name), strict=True)
    for k, (ours, theirs) in enumerate(both):
        for call in calls:
            xs, ys = _sample_call(layer, call, kept, ours, theirs, spatial_samples, k)
            fold = mark_holdout(xs)
            for part, images in ((train, ~fold), (held_out, fold)):
                if images.any():
                    part.add(split_groups(xs[images], groups), split_groups(ys[images], groups))
    weight = layer.weight.double()
    if isinstance(norm, BatchNorm):
        weight = weight * batch_norm_scale(norm).view(-1, *[1] * (weight.ndim - 1))
    old = weight.reshape(groups, outputs, size).mT
    fit = fit_ridge(train, held_out, old, biased=layer.bias is not None or norm is not None)
    if torch.isfinite(fit.weight).all() and torch.isfinite(fit.bias).all():
        _write_fit(layer, norm, fit)


def _sample_call(
    layer: nn.Conv2d | nn.Linear,
    call: LayerTask,
    kept: Tensor,
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    spatial_samples: int,
    batch: int,
) -> tuple[Tensor, Tensor]:
    """Return what a call of a layer reads of the cut network, and what it is to write."""
    x, y = ours[producer_of(call.node).name], theirs[call.target]
    if call.override is not None:
        value, first, second = (theirs[name] for name in call.override)
        y = torch.where(first == second, value, y)
    at = draw_positions(layer, y, spatial_samples, call.node.name, batch)
    xs = sample_inputs(layer, x, y.shape, at)
    ys = sample_outputs(layer, y, at)[..., kept.to(y.device)]
    if call.residual is not None:
        ys = ys - sample_outputs(layer, ours[call.residual.name], at)
    return xs, ys


def _write_fit(layer: nn.Conv2d | nn.Linear, norm: nn.Module | None, fit: RidgeFit) -> None:
    """Put a fit into a layer, or into it and the batch norm behind it."""
    weight, bias = fit.weight.mT.reshape(layer.weight.shape), fit.bias.flatten()
    if not isinstance(norm, BatchNorm):
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(bias)
        return
    scale = batch_norm_scale(norm)
    mean, variance = fit.mean.flatten(), fit.variance.flatten() / scale.square()
    assert norm.running_mean is not None and norm.running_var is not None
    layer.weight.copy_(weight / scale.view(-1, *[1] * (weight.ndim - 1)))
    if layer.bias is not None:
        layer.bias.zero_()
    norm.running_mean.copy_((mean - bias) / scale)
    norm.running_var.copy_(variance)
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.bias.copy_(mean)


@torch.no_grad()
def _estimate_statistics(
    module: fx.GraphModule, calls: tuple[fx.Node, ...], cut: StagedExecution
) -> None:
    """Estimate the running statistics of a batch norm that follows no refitted layer."""
    norm = module.get_submodule(str(calls[0].target))
    assert isinstance(norm, BatchNorm)
    assert norm.running_mean is not None and norm.running_var is not None
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    sources = [producer_of(node).name for node in calls]
    for found in cut.values(sources, calls[0].name):
        for source in sources:
            rows = found[source].double().movedim(1, -1).flatten(0, -2)
            count, total = count + len(rows), total + rows.sum(0)
            squares = squares + (rows**2).sum(0)
    mean = total / count
    norm.running_mean.copy_(mean)
    norm.running_var.copy_((squares / count - mean.square()).clamp_min(0))
