"""Operators with parameters of their own and the ``torch.nn`` layers that they are calls of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from .nodes import arguments, operator_name

SETTINGS: dict[type[nn.Module], tuple[str, ...]] = {
    **dict.fromkeys(
        (nn.Conv1d, nn.Conv2d, nn.Conv3d),
        ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
         "bias"),
    ),
    **dict.fromkeys(
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        ("in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding",
         "groups", "bias", "dilation"),
    ),
    nn.Linear: ("in_features", "out_features", "bias"),
    **dict.fromkeys(
        (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
        ("num_features", "eps", "momentum", "affine", "track_running_stats"),
    ),
    nn.LayerNorm: ("normalized_shape", "eps", "elementwise_affine", "bias"),
    nn.GroupNorm: ("num_groups", "num_channels", "eps", "affine"),
    nn.Embedding: ("num_embeddings", "embedding_dim"),
    nn.Dropout: ("p",),
}  # fmt: skip
"""Every layer that a rebuilt network may hold, with the arguments that make it again."""

BY_NAME = {layer.__name__: layer for layer in SETTINGS}


def settings(layer: nn.Module) -> dict[str, Any]:
    """The arguments that make this layer again (``bias`` as yes or no)."""
    values = {name: getattr(layer, name) for name in SETTINGS[type(layer)]}
    if "bias" in values:
        values["bias"] = values["bias"] is not None
    return values


Made = tuple[type[nn.Module], dict[str, Any], dict[str, Any], tuple[Any, ...]]
"""A layer's class and settings; its leaves' names and the nodes they come from; its inputs."""


def layer_of(node: fx.Node, tensors: Mapping[str, Tensor]) -> Made | None:
    """The layer that an operator is a call of, judged by its arguments, or None."""
    make = _MAKERS.get(operator_name(node)) if node.op == "call_function" else None
    return make(arguments(node), tensors) if make else None


def _tensor(node: Any, tensors: Mapping[str, Tensor]) -> Tensor | None:
    if isinstance(node, fx.Node) and node.op == "get_attr":
        return tensors[str(node.target)]
    return None


def _convolution(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    weight = _tensor(args["weight"], tensors)
    if weight is None:
        return None
    rank = weight.dim() - 2
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    padding = args["padding"]
    made = {
        "in_channels": weight.shape[1] * args["groups"],
        "out_channels": weight.shape[0],
        "kernel_size": tuple(weight.shape[2:]),
        "stride": _tuple(args["stride"], rank),
        "padding": padding if isinstance(padding, str) else _tuple(padding, rank),
        "dilation": _tuple(args["dilation"], rank),
        "groups": args["groups"],
        "bias": args["bias"] is not None,
    }
    return kind, made, {"weight": args["weight"], "bias": args["bias"]}, (args["input"],)


def _transposed(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    weight = _tensor(args["weight"], tensors)
    if weight is None:
        return None
    rank = weight.dim() - 2
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
    made = {
        "in_channels": weight.shape[0],
        "out_channels": weight.shape[1] * args["groups"],
        "kernel_size": tuple(weight.shape[2:]),
        **{
            name: _tuple(args[name], rank)
            for name in ("stride", "padding", "output_padding", "dilation")
        },
        "groups": args["groups"],
        "bias": args["bias"] is not None,
    }
    return kind, made, {"weight": args["weight"], "bias": args["bias"]}, (args["input"],)


def _tuple(value: Any, rank: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * rank if len(values) == 1 else values


def _linear(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    weight = _tensor(args["weight"], tensors)
    if weight is None or weight.dim() != 2:
        return None
    made = {
        "in_features": weight.shape[1],
        "out_features": weight.shape[0],
        "bias": args["bias"] is not None,
    }
    return nn.Linear, made, {"weight": args["weight"], "bias": args["bias"]}, (args["input"],)


def _batch_norm(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    mean, weight = _tensor(args["running_mean"], tensors), args["weight"]
    rank = len(args["input"].meta["shape"])
    if mean is None or (weight is None) != (args["bias"] is None) or args["training"]:
        return None
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[rank]
    made = {
        "num_features": mean.shape[0],
        "eps": args["eps"],
        "momentum": args["momentum"],
        "affine": weight is not None,
        "track_running_stats": True,
    }
    leaves = {name: args[name] for name in ("weight", "bias", "running_mean", "running_var")}
    return kind, made, leaves, (args["input"],)


def _layer_norm(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    made = {
        "normalized_shape": tuple(args["normalized_shape"]),
        "eps": args["eps"],
        "elementwise_affine": True,
        "bias": args["bias"] is not None,
    }
    if _tensor(args["weight"], tensors) is None:
        return None
    return nn.LayerNorm, made, {"weight": args["weight"], "bias": args["bias"]}, (args["input"],)


def _group_norm(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    weight = _tensor(args["weight"], tensors)
    if weight is None or args["bias"] is None:
        return None
    made = {
        "num_groups": args["num_groups"],
        "num_channels": weight.shape[0],
        "eps": args["eps"],
        "affine": True,
    }
    return nn.GroupNorm, made, {"weight": args["weight"], "bias": args["bias"]}, (args["input"],)


def _embedding(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    weight = _tensor(args["weight"], tensors)
    if weight is None:
        return None
    made = {"num_embeddings": weight.shape[0], "embedding_dim": weight.shape[1]}
    return nn.Embedding, made, {"weight": args["weight"]}, (args["indices"],)


def _dropout(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    return nn.Dropout, {"p": args["p"]}, {}, (args["input"],)


_MAKERS: dict[str, Callable[[dict[str, Any], Mapping[str, Tensor]], Made | None]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "embedding": _embedding,
    "dropout": _dropout,
}


def build(kind: type[nn.Module], made: Mapping[str, Any]) -> nn.Module:
    """An empty layer (on the meta device: its tensors are put in afterwards)."""
    with torch.device("meta"):
        return kind(**made)
