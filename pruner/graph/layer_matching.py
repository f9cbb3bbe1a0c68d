"""Operators and the ``torch.nn`` layers that they are calls of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor, fx, nn

from .layer_registry import LAYER_SETTINGS
from .ops import operator_arguments, operator_name
from .stochastic import DotProductAttention, DropPath

Made = tuple[type[nn.Module], dict[str, Any], dict[str, Any], tuple[Any, ...]]
"""A layer's class and settings; its leaves' names and the nodes they come from; its inputs."""
Maker: TypeAlias = "Callable[[dict[str, Any], Mapping[str, Tensor]], Made | None]"


def layer_of(node: fx.Node, tensors: Mapping[str, Tensor]) -> Made | None:
    """The layer that an operator is a call of, judged by its arguments, or None."""
    make = _MAKERS.get(operator_name(node)) if node.op == "call_function" else None
    return (
        make({**operator_arguments(node), **node.meta.get("training", {})}, tensors)
        if make
        else None
    )


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
    return None if "frozen" in args else _normalized(args, tensors, _BATCH, args["training"])


def _instance_norm(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    return _normalized(args, tensors, _INSTANCE, args["use_input_stats"])


_BATCH = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_INSTANCE = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


def _normalized(
    args: dict[str, Any],
    tensors: Mapping[str, Tensor],
    kinds: Mapping[int, type[nn.Module]],
    by_input: bool,
) -> Made | None:
    """by_input: whether the statistics are the input's, not those of training."""
    mean, weight = _tensor(args["running_mean"], tensors), _tensor(args["weight"], tensors)
    kind, known = kinds.get(len(args["input"].meta["shape"])), weight if mean is None else mean
    if kind is None or known is None or (weight is None) != (args["bias"] is None):
        return None
    if by_input == (mean is not None):
        return None
    made = {
        "num_features": known.shape[0],
        "eps": args["eps"],
        "momentum": args["momentum"],
        "affine": weight is not None,
        "track_running_stats": mean is not None,
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


def _rms_norm(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    made = {
        "normalized_shape": tuple(args["normalized_shape"]),
        "eps": args["eps"],
        "elementwise_affine": True,
    }
    if _tensor(args["weight"], tensors) is None:
        return None
    return nn.RMSNorm, made, {"weight": args["weight"]}, (args["input"],)


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
    padding = args["padding_idx"]
    made = {
        "num_embeddings": weight.shape[0],
        "embedding_dim": weight.shape[1],
        "padding_idx": None if padding < 0 else padding,
    }
    return nn.Embedding, made, {"weight": args["weight"]}, (args["indices"],)


def _prelu(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    weight = _tensor(args["weight"], tensors)
    if weight is None:
        return None
    return nn.PReLU, {"num_parameters": weight.numel()}, {"weight": args["weight"]}, (args["self"],)


def _recurrent(
    kind: type[nn.RNNBase], gates: int, args: dict[str, Any], tensors: Mapping[str, Tensor]
) -> Made | None:
    """gates: how often the hidden size stands in the first axis of a weight."""
    directions = 2 if args["bidirectional"] else 1
    each = 4 if args["has_biases"] else 2
    params = args.get("params")
    if params is None or len(params) != args["num_layers"] * directions * each:
        return None  # packed sequences, projected states
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[:each]
    names = [
        f"{one}_l{layer}{'_reverse' if direction else ''}"
        for layer in range(args["num_layers"])
        for direction in range(directions)
        for one in kinds
    ]
    first = _tensor(params[0], tensors)
    if first is None:
        return None
    made = {
        "input_size": first.shape[1],
        "hidden_size": first.shape[0] // gates,
        "num_layers": args["num_layers"],
        "bias": args["has_biases"],
        "batch_first": args["batch_first"],
        "dropout": args["dropout"],
        "bidirectional": args["bidirectional"],
    }
    state = tuple(args["hx"]) if kind is nn.LSTM else args["hx"]
    return kind, made, dict(zip(names, params)), (args["input"], state)


def _lstm(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    return _recurrent(nn.LSTM, 4, args, tensors)


def _gru(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    return _recurrent(nn.GRU, 3, args, tensors)


def _without_tensors(kind: type[nn.Module]) -> Maker:
    """For an operator whose arguments have the names of the layer's settings."""

    def make(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made:
        return kind, {name: args[name] for name in LAYER_SETTINGS[kind]}, {}, (args["input"],)

    return make


def _feature_dropout(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    rank = len(args["input"].meta["shape"])
    kind = {3: nn.Dropout1d, 4: nn.Dropout2d, 5: nn.Dropout3d}.get(rank)
    return _without_tensors(kind)(args, tensors) if kind else None


def _attention(args: dict[str, Any], tensors: Mapping[str, Tensor]) -> Made | None:
    """Only where something is dropped in training; else it stays a call of the operator."""
    if not args["dropout_p"]:
        return None
    made = {
        "p": args["dropout_p"],
        "is_causal": args["is_causal"],
        "scale": args["scale"],
        "gqa": args["enable_gqa"],
    }
    inputs = (args["query"], args["key"], args["value"], args["attn_mask"])
    return DotProductAttention, made, {}, inputs


_MAKERS: dict[str, Maker] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    "linear": _linear,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "embedding": _embedding,
    "prelu": _prelu,
    "lstm": _lstm,
    "gru": _gru,
    "dropout": _without_tensors(nn.Dropout),
    "feature_dropout": _feature_dropout,
    "alpha_dropout": _without_tensors(nn.AlphaDropout),
    "feature_alpha_dropout": _without_tensors(nn.FeatureAlphaDropout),
    "drop_path": _without_tensors(DropPath),
    "scaled_dot_product_attention": _attention,
}
