"""Affine layers in a module's graph: a convolution or linear layer and the batch norm behind it."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

LinearLayer = nn.Conv2d | nn.Linear


def get_layer(module: nn.Module, node: fx.Node) -> nn.Module | None:
    """The layer that a node calls, or None for one that calls none."""
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def is_ungrouped(layer: nn.Module | None) -> TypeGuard[LinearLayer]:
    """Whether every output of the layer reads every input."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def producer_of(node: fx.Node) -> fx.Node:
    """What a layer's call reads."""
    found = node.args[0]
    assert isinstance(found, fx.Node)
    return found


def only_user(node: fx.Node) -> fx.Node | None:
    """The one node that reads this one, or None where there are none or several."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def find_batch_norm_after(module: nn.Module, node: fx.Node) -> fx.Node | None:
    """The call of a batch norm with scale, shift and statistics that alone reads this node."""
    user = only_user(node)
    return user if user is not None and is_batch_norm(get_layer(module, user)) else None


def is_batch_norm(layer: nn.Module | None) -> TypeGuard[_BatchNorm]:
    """Whether a layer is a batch norm with scale, shift and running statistics."""
    return isinstance(layer, _BatchNorm) and layer.affine and layer.running_var is not None


def batch_norm_scale(norm: nn.Module) -> Tensor:
    """What a batch norm multiplies by in evaluation mode, in double precision; never zero."""
    assert is_batch_norm(norm) and norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return torch.where(scale.abs() < 1e-12, torch.full_like(scale, 1e-12), scale)


def effective_weight(module: nn.Module, node: fx.Node) -> Tensor:
    """A layer's weight times the scale of the batch norm behind it, in double: its own shape."""
    layer = get_layer(module, node)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    weight = layer.weight.detach().double()
    norm = find_batch_norm_after(module, node)
    if norm is None:
        return weight
    return weight * batch_norm_scale(module.get_submodule(str(norm.target))).view(
        -1, *[1] * (weight.ndim - 1)
    )
