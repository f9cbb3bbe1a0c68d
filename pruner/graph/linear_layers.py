"""Affine layers in a module's graph: a convolution or linear layer and the batch norm behind it."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

Layer = nn.Conv2d | nn.Linear


def layer_at(module: nn.Module, node: fx.Node) -> nn.Module | None:
    """The layer that a node calls, or None for one that calls none."""
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def is_plain(layer: nn.Module | None) -> TypeGuard[Layer]:
    """Whether every output of the layer reads every input."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def source(node: fx.Node) -> fx.Node:
    """What a layer's call reads."""
    found = node.args[0]
    assert isinstance(found, fx.Node)
    return found


def only_user(node: fx.Node) -> fx.Node | None:
    """The one node that reads this one, or None where there are none or several."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def norm_behind(module: nn.Module, node: fx.Node) -> fx.Node | None:
    """The call of a batch norm with scale, shift and statistics that alone reads this node."""
    user = only_user(node)
    return user if user is not None and is_norm(layer_at(module, user)) else None


def is_norm(layer: nn.Module | None) -> TypeGuard[_BatchNorm]:
    """Whether a layer is a batch norm with scale, shift and running statistics."""
    return isinstance(layer, _BatchNorm) and layer.affine and layer.running_var is not None


def scale_of(norm: nn.Module) -> Tensor:
    """What a batch norm multiplies by in evaluation mode, in double precision; never zero."""
    assert is_norm(norm) and norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return torch.where(scale.abs() < 1e-12, torch.full_like(scale, 1e-12), scale)


def effective_weight(module: nn.Module, node: fx.Node) -> Tensor:
    """A layer's weight times the scale of the batch norm behind it, in double: its own shape."""
    layer = layer_at(module, node)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    weight = layer.weight.detach().double()
    norm = norm_behind(module, node)
    if norm is None:
        return weight
    return weight * scale_of(module.get_submodule(str(norm.target))).view(
        -1, *[1] * (weight.ndim - 1)
    )
