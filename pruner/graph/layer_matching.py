"""Operators and the ``torch.nn`` layers that they are calls of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, fx, nn

from .layer_registry import LAYER_SETTINGS
from .ops import operator_arguments, operator_name
from .stochastic import DotProductAttention, DropPath

Tensors = Mapping[str, Tensor]
LayerCall = tuple[type[nn.Module], dict[str, Any], dict[str, Any], tuple[Any, ...]]
"""A layer's class and settings; its leaves' names and the nodes they come from; its inputs."""
Matcher: TypeAlias = "Callable[[dict[str, Any], Tensors], LayerCall | None]"


def match_layer(node: fx.Node, tensors: Tensors) -> LayerCall | None:
    """Return the layer that an operator is a call of, judged by its arguments, or None."""
    match = _MATCHERS.get(operator_name(node)) if node.op == "call_function" else None
    if match is None:
        return None
    return match({**operator_arguments(node), **node.meta.get("training", {})}, tensors)


def _find_tensor(node: Any, tensors: Tensors) -> Tensor | None:
    if isinstance(node, fx.Node) and node.op == "get_attr":
        return tensors[str(node.target)]
    return None


def _match_by_weight(match: Callable[[dict[str, Any], Tensor], LayerCall | None]) -> Matcher:
    """Make a matcher for operators that are a layer only if their weight is a plain tensor."""

    def match_weight(args: dict[str, Any], tensors: Tensors) -> LayerCall | None:
        weight = _find_tensor(args["weight"], tensors)
        return None if weight is None else match(args, weight)

    return match_weight


def _call(kind: type[nn.Module], made: dict[str, Any], args: dict[str, Any]) -> LayerCall:
    """Return the call of a layer with a weight and perhaps a bias on one input."""
    names = ("weight", "bias") if "bias" in args else ("weight",)
    return kind, made, {name: args[name] for name in names}, (args["input"],)


@_match_by_weight
def _match_convolution(args: dict[str, Any], weight: Tensor) -> LayerCall:
    rank = weight.dim() - 2
    padding = args["padding"]
    made = {
        "in_channels": weight.shape[1] * args["groups"],
        "out_channels": weight.shape[0],
        "kernel_size": tuple(weight.shape[2:]),
        "stride": _spread(args["stride"], rank),
        "padding": padding if isinstance(padding, str) else _spread(padding, rank),
        "dilation": _spread(args["dilation"], rank),
        "groups": args["groups"],
        "bias": args["bias"] is not None,
    }
    return _call((nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1], made, args)


@_match_by_weight
def _match_transposed_convolution(args: dict[str, Any], weight: Tensor) -> LayerCall:
    rank = weight.dim() - 2
    made = {
        "in_channels": weight.shape[0],
        "out_channels": weight.shape[1] * args["groups"],
        "kernel_size": tuple(weight.shape[2:]),
        **{
            name: _spread(args[name], rank)
            for name in ("stride", "padding", "output_padding", "dilation")
        },
        "groups": args["groups"],
        "bias": args["bias"] is not None,
    }
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
    return _call(kind, made, args)


def _spread(value: Any, rank: int) -> tuple[int, ...]:
    """Return a setting for each of rank axes."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * rank if len(values) == 1 else values


@_match_by_weight
def _match_linear(args: dict[str, Any], weight: Tensor) -> LayerCall | None:
    if weight.dim() != 2:
        return None
    made = {
        "in_features": weight.shape[1],
        "out_features": weight.shape[0],
        "bias": args["bias"] is not None,
    }
    return _call(nn.Linear, made, args)


def _match_batch_norm(args: dict[str, Any], tensors: Tensors) -> LayerCall | None:
    return None if "frozen" in args else _match_norm(args, tensors, _BATCH, args["training"])


def _match_instance_norm(args: dict[str, Any], tensors: Tensors) -> LayerCall | None:
    return _match_norm(args, tensors, _INSTANCE, args["use_input_stats"])


_BATCH = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_INSTANCE = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


def _match_norm(
    args: dict[str, Any],
    tensors: Tensors,
    kinds: Mapping[int, type[nn.Module]],
    by_input: bool,
) -> LayerCall | None:
    """Match a norm; by_input: its statistics are the input's, not those of training."""
    mean, weight = (
        _find_tensor(args["running_mean"], tensors),
        _find_tensor(args["weight"], tensors),
    )
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


@_match_by_weight
def _match_layer_norm(args: dict[str, Any], weight: Tensor) -> LayerCall:
    made = {
        "normalized_shape": tuple(args["normalized_shape"]),
        "eps": args["eps"],
        "elementwise_affine": True,
        "bias": args["bias"] is not None,
    }
    return _call(nn.LayerNorm, made, args)


@_match_by_weight
def _match_rms_norm(args: dict[str, Any], weight: Tensor) -> LayerCall:
    made = {
        "normalized_shape": tuple(args["normalized_shape"]),
        "eps": args["eps"],
        "elementwise_affine": True,
    }
    return _call(nn.RMSNorm, made, args)


@_match_by_weight
def _match_group_norm(args: dict[str, Any], weight: Tensor) -> LayerCall | None:
    if args["bias"] is None:
        return None
    made = {
        "num_groups": args["num_groups"],
        "num_channels": weight.shape[0],
        "eps": args["eps"],
        "affine": True,
    }
    return _call(nn.GroupNorm, made, args)


@_match_by_weight
def _match_embedding(args: dict[str, Any], weight: Tensor) -> LayerCall:
    padding = args["padding_idx"]
    made = {
        "num_embeddings": weight.shape[0],
        "embedding_dim": weight.shape[1],
        "padding_idx": None if padding < 0 else padding,
    }
    return nn.Embedding, made, {"weight": args["weight"]}, (args["indices"],)


@_match_by_weight
def _match_prelu(args: dict[str, Any], weight: Tensor) -> LayerCall:
    return nn.PReLU, {"num_parameters": weight.numel()}, {"weight": args["weight"]}, (args["self"],)


def _match_recurrent(
    kind: type[nn.RNNBase], gates: int, args: dict[str, Any], tensors: Tensors
) -> LayerCall | None:
    """Match a recurrent layer whose weights' first axis is so many gates times the hidden size."""
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
    first = _find_tensor(params[0], tensors)
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


def _match_without_tensors(kind: type[nn.Module]) -> Matcher:
    """Make a matcher for an operator whose arguments have the names of the layer's settings."""

    def match(args: dict[str, Any], tensors: Tensors) -> LayerCall:
        return kind, {name: args[name] for name in LAYER_SETTINGS[kind]}, {}, (args["input"],)

    return match


def _match_feature_dropout(args: dict[str, Any], tensors: Tensors) -> LayerCall | None:
    rank = len(args["input"].meta["shape"])
    kind = {3: nn.Dropout1d, 4: nn.Dropout2d, 5: nn.Dropout3d}.get(rank)
    return _match_without_tensors(kind)(args, tensors) if kind else None


def _match_attention(args: dict[str, Any], tensors: Tensors) -> LayerCall | None:
    """Match an attention with dropout in training; others stay calls of the operator."""
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


_MATCHERS: dict[str, Matcher] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _match_convolution),
    **dict.fromkeys(
        ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _match_transposed_convolution
    ),
    "linear": _match_linear,
    "batch_norm": _match_batch_norm,
    "instance_norm": _match_instance_norm,
    "rms_norm": _match_rms_norm,
    "layer_norm": _match_layer_norm,
    "group_norm": _match_group_norm,
    "embedding": _match_embedding,
    "prelu": _match_prelu,
    "lstm": partial(_match_recurrent, nn.LSTM, 4),
    "gru": partial(_match_recurrent, nn.GRU, 3),
    "dropout": _match_without_tensors(nn.Dropout),
    "feature_dropout": _match_feature_dropout,
    "alpha_dropout": _match_without_tensors(nn.AlphaDropout),
    "feature_alpha_dropout": _match_without_tensors(nn.FeatureAlphaDropout),
    "drop_path": _match_without_tensors(DropPath),
    "scaled_dot_product_attention": _match_attention,
}
