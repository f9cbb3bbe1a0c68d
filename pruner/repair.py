"""repair: the weights of what reads cut channels, fitted to what the dense network computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .network import Dim
from .recalibrate import recalibrate
from .seeds import generator


class Dense(Protocol):
    """What repairing needs of a Network: the dense module and its Dims."""

    @property
    def module(self) -> nn.Module: ...
    @property
    def dims(self) -> Mapping[str, Dim]: ...


def repair(
    module: nn.Module,
    net: Dense,
    keep: Mapping[str, Iterable[int]],
    batches: Iterable[tuple[Any, Any]],
    *,
    ridge: float = 1e-3,
    places: int = 64,
    progress: Callable[[int, int | None], None] | None = None,
) -> tuple[str, ...]:
    """Fit every layer that lost inputs, in the order of execution, without any label or gradient.

    For a convolution or linear layer with kept outputs y of the dense network and inputs x of the
    cut one (the layers before it repaired already), over images and places:

        min over W, b of mean |W x + b - y|^2 + ridge * trace(mean x x^T) / size * |W - W_old|^2

    (reconstruction as in He et al. 2017, arXiv 1707.06168, eq. 2, from the cut network's inputs, so
    that errors do not pile up). Where a layer has no bias, b goes into the batch norms behind it,
    whose statistics are estimated anew after every layer; a linear layer without one is fitted
    without b. Grouped convolutions stay as they are.

    module
        The cut network, changed in place.
    net, keep
        What it was cut from, and the kept indices of each Dim (a Plan's keep).
    batches
        Calibration images, kept in memory; labels are not looked at.
    places
        Output places used of each image, drawn at random.

    Returns the names of the layers that were fitted. Memory: one matrix of (inputs * kernel)^2.
    """
    batches = list(batches)
    module.eval()
    dense = net.module
    modes = {m: m.training for m in dense.modules()}
    dense.eval()
    try:
        recalibrate(module, batches)
        names = [n for n in _in_order(module, batches) if _lost_inputs(module, dense, n)]
        for done, name in enumerate(names, 1):
            _fit(module, dense, name, _kept_outputs(net, keep, name), batches, ridge, places)
            recalibrate(module, batches)
            if progress is not None:
                progress(done, len(names))
    finally:
        for m, training in modes.items():
            m.training = training
    return tuple(names)


class _Reached(Exception):
    """Ends a forward pass at the layer that it was for."""


def _in_order(module: nn.Module, batches: list[tuple[Any, Any]]) -> list[str]:
    """Names of plain convolutions and linear layers as they are first executed."""
    seen: dict[str, None] = {}
    handles = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
            handles.append(layer.register_forward_hook(lambda *_, name=name: seen.setdefault(name)))
    try:
        _run(module, batches[0][0])
    finally:
        for handle in handles:
            handle.remove()
    return list(seen)


def _lost_inputs(module: nn.Module, dense: nn.Module, name: str) -> bool:
    ours, theirs = (m.get_submodule(name).weight for m in (module, dense))
    assert isinstance(ours, Tensor) and isinstance(theirs, Tensor)
    return ours.shape[1] < theirs.shape[1]


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


@torch.no_grad()
def _fit(
    module: nn.Module,
    dense: nn.Module,
    name: str,
    kept: Tensor,
    batches: list[tuple[Any, Any]],
    ridge: float,
    places: int,
) -> None:
    layer = module.get_submodule(name)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    convolution = isinstance(layer, nn.Conv2d)
    old = layer.weight.double().flatten(1).T  # [inputs, outputs]
    size = len(old)
    cross = old.new_zeros(size, size)  # sums of x x^T, x y^T, x, y
    target = torch.zeros_like(old)
    x_sum, y_sum = old.new_zeros(size), old.new_zeros(old.shape[1])
    count = 0
    for k, (inputs, _) in enumerate(batches):
        x = _caught(module, name, inputs, output=False)
        y = _caught(dense, name, inputs, output=True)
        if convolution:
            y = y.index_select(1, kept.to(y.device)).flatten(2).transpose(1, 2)  # [n, places, c]
            pick = torch.randperm(y.shape[1], generator=generator("places", name, k))[:places]
            pick = pick.to(y.device)
            rows = torch.cat([_patches(layer, part)[:, pick] for part in x.split(8)])
            x, y = rows, y[:, pick]
        else:
            y = y.index_select(-1, kept.to(y.device))
        x, y = x.reshape(-1, size).double(), y.reshape(-1, old.shape[1]).double()
        cross += x.T @ x
        target += x.T @ y
        x_sum += x.sum(0)
        y_sum += y.sum(0)
        count += len(x)
    cross, target = cross / count, target / count
    x_mean, y_mean = x_sum / count, y_sum / count
    shifted = layer.bias is not None or convolution
    if shifted:
        cross = cross - torch.outer(x_mean, x_mean)
        target = target - torch.outer(x_mean, y_mean)
    weight = ridge * cross.diagonal().mean().clamp_min(1e-12)
    cross.diagonal().add_(weight)
    new = torch.linalg.solve(cross, target + weight * old)
    if not torch.isfinite(new).all():
        return
    layer.weight.copy_(new.T.reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(y_mean - x_mean @ new)


def _patches(layer: nn.Module, x: Tensor) -> Tensor:
    """What a convolution reads at every place: [n, places, inputs * kernel]."""
    assert isinstance(layer, nn.Conv2d) and not isinstance(layer.padding, str)
    return nn.functional.unfold(
        x, layer.kernel_size, layer.dilation, layer.padding, layer.stride
    ).transpose(1, 2)


def _caught(module: nn.Module, name: str, inputs: Any, *, output: bool) -> Tensor:
    """What flows into a layer, or out of it; the pass ends there."""
    found: list[Tensor] = []

    def before(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        found.append(arguments[0])
        raise _Reached

    def after(layer: nn.Module, arguments: tuple[Tensor, ...], result: Tensor) -> None:
        found.append(result)
        raise _Reached

    layer = module.get_submodule(name)
    handle = (
        layer.register_forward_hook(after) if output else layer.register_forward_pre_hook(before)
    )
    try:
        _run(module, inputs)
    except _Reached:
        pass
    finally:
        handle.remove()
    return found[0]


@torch.no_grad()
def _run(module: nn.Module, inputs: Any) -> None:
    device = next(module.parameters()).device
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    module(*(a.to(device) for a in arguments))
