"""Convolutions and linear layers in a module's graph, and the batch norms behind them."""

from typing import TypeGuard

import torch
from torch import Tensor, fx, nn

from .torch_internals import BatchNorm

LinearLayer = nn.Conv2d | nn.Linear


def get_layer(module: nn.Module, node: fx.Node) -> nn.Module | None:
    """Return the layer that a node calls, or None for one that calls none."""
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def is_ungrouped(layer: nn.Module | None) -> TypeGuard[LinearLayer]:
    """Whether every output of the layer reads every input."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def only_user(node: fx.Node) -> fx.Node | None:
    """Return the one node that reads this one, or None where there are none or several."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def find_batch_norm_after(module: nn.Module, node: fx.Node) -> fx.Node | None:
    """Find the call of a batch norm, as in `is_batch_norm`, that alone reads this node."""
    user = only_user(node)
    return user if user is not None and is_batch_norm(get_layer(module, user)) else None


def is_batch_norm(layer: nn.Module | None) -> TypeGuard[BatchNorm]:
    """Whether a layer is a batch norm with scale, shift and running statistics."""
    return isinstance(layer, BatchNorm) and layer.affine and layer.running_var is not None


def batch_norm_scale(norm: nn.Module) -> Tensor:
    """Return what a batch norm multiplies by in evaluation mode: [channels] double, never zero."""
    assert is_batch_norm(norm) and norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return torch.where(scale.abs() < 1e-12, torch.full_like(scale, 1e-12), scale)


def effective_weight(module: nn.Module, node: fx.Node) -> Tensor:
    """Return a layer's weight times the scale of the batch norm behind it: its shape, double."""
    layer = get_layer(module, node)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    weight = layer.weight.detach().double()
    norm = find_batch_norm_after(module, node)
    if norm is None:
        return weight
    return weight * batch_norm_scale(module.get_submodule(str(norm.target))).view(
        -1, *[1] * (weight.ndim - 1)
    )
