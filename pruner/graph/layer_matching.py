"""Operators and the ``torch.nn`` layers that they are calls of."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, fx, nn

from .layer_registry import LAYER_SETTINGS
from .ops import operator_arguments, operator_name
from .stochastic import DotProductAttention, DropPath

Tensors = Mapping[str, Tensor]
LayerCall = tuple[type[nn.Module], dict[str, Any], dict[str, Any], tuple[Any, ...]]
"""A layer's class and settings; its leaves' names and the nodes they come from; its inputs."""
Matcher: TypeAlias = Callable[[dict[str, Any], Tensors], LayerCall | None]


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


def _call(
    kind: type[nn.Module], args: dict[str, Any], leaves: Sequence[str] = ("weight", "bias"),
    inputs: Sequence[str] = ("input",), **known: Any,
) -> LayerCall:  # fmt: skip
    """Return the call of a layer whose settings are the known ones, or the operator's arguments."""
    known = {**args, **known, "bias": known.get("bias", args.get("bias") is not None)}
    made = {name: known[name] for name in LAYER_SETTINGS[kind]}
    held = {name: args[name] for name in leaves if name in args}
    return kind, made, held, tuple(args[name] for name in inputs)


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@_match_by_weight
def _match_convolution(args: dict[str, Any], weight: Tensor) -> LayerCall:
    """Match a convolution: its weight is [out, in / groups, ...], transposed [in, out / groups]."""
    rank, transposed = weight.dim() - 2, "output_padding" in args
    first, second = weight.shape[0], weight.shape[1] * args["groups"]
    return _call(
        (_TRANSPOSED if transposed else _CONVOLUTIONS)[rank - 1], args,
        in_channels=first if transposed else second, out_channels=second if transposed else first,
        kernel_size=tuple(weight.shape[2:]), **_spread(args, rank),
    )  # fmt: skip


def _spread(args: dict[str, Any], rank: int) -> dict[str, Any]:
    """Return a convolution's settings for each of rank axes."""
    names = ("stride", "padding", "output_padding", "dilation")
    found = {name: args[name] for name in names if name in args}
    for name, value in found.items():
        if not isinstance(value, str):
            values = (value,) if isinstance(value, int) else tuple(value)
            found[name] = values * rank if len(values) == 1 else values
    return found


@_match_by_weight
def _match_linear(args: dict[str, Any], weight: Tensor) -> LayerCall | None:
    if weight.dim() != 2:
        return None
    return _call(nn.Linear, args, in_features=weight.shape[1], out_features=weight.shape[0])


_BATCH = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_INSTANCE = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


def _match_norm(
    kinds: Mapping[int, type[nn.Module]], flag: str, args: dict[str, Any], tensors: Tensors
) -> LayerCall | None:
    """Match a norm; flag: the argument by which its statistics are the input's, not training's."""
    if kinds is _BATCH and "frozen" in args:
        return None
    mean, weight = (_find_tensor(args[name], tensors) for name in ("running_mean", "weight"))
    kind, known = kinds.get(len(args["input"].meta["shape"])), weight if mean is None else mean
    if kind is None or known is None or (weight is None) != (args["bias"] is None):
        return None
    if args[flag] == (mean is not None):
        return None
    return _call(
        kind, args, ("weight", "bias", "running_mean", "running_var"),
        num_features=known.shape[0], affine=weight is not None,
        track_running_stats=mean is not None,
    )  # fmt: skip


@_match_by_weight
def _match_layer_norm(args: dict[str, Any], weight: Tensor) -> LayerCall:
    shape = tuple(args["normalized_shape"])
    kind = nn.LayerNorm if "bias" in args else nn.RMSNorm
    return _call(kind, args, normalized_shape=shape, elementwise_affine=True)


@_match_by_weight
def _match_group_norm(args: dict[str, Any], weight: Tensor) -> LayerCall | None:
    if args["bias"] is None:
        return None
    return _call(nn.GroupNorm, args, num_channels=weight.shape[0], affine=True)


@_match_by_weight
def _match_embedding(args: dict[str, Any], weight: Tensor) -> LayerCall:
    index = None if args["padding_idx"] < 0 else args["padding_idx"]
    count, width = weight.shape
    return _call(
        nn.Embedding, args, inputs=("indices",), num_embeddings=count, embedding_dim=width,
        padding_idx=index,
    )  # fmt: skip


@_match_by_weight
def _match_prelu(args: dict[str, Any], weight: Tensor) -> LayerCall:
    return _call(nn.PReLU, args, inputs=("self",), num_parameters=weight.numel())


def _match_recurrent(
    kind: type[nn.RNNBase], gates: int, args: dict[str, Any], tensors: Tensors
) -> LayerCall | None:
    """Match a recurrent layer whose weights' first axis is so many gates times the hidden size."""
    directions = 2 if args["bidirectional"] else 1
    each = 4 if args["has_biases"] else 2
    params = args.get("params")
    cells = args["num_layers"] * directions
    projected = kind is nn.LSTM and params is not None and len(params) == cells * (each + 1)
    if params is None or len(params) != cells * (each + projected):
        return None  # packed sequences
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[:each] + ("weight_hr",) * projected
    names = [
        f"{one}_l{layer}{'_reverse' if direction else ''}"
        for layer in range(args["num_layers"])
        for direction in range(directions)
        for one in kinds
    ]
    first, second = (_find_tensor(one, tensors) for one in params[:2])
    if first is None or second is None:
        return None
    hidden = first.shape[0] // gates
    if projected and second.shape[1] >= hidden:
        return None  # which the layer refuses
    state = tuple(args["hx"]) if kind is nn.LSTM else args["hx"]
    args = {**args, **dict(zip(names, params)), "state": state}
    return _call(
        kind, args, names, ("input", "state"), input_size=first.shape[1],
        hidden_size=hidden, bias=args["has_biases"],
        proj_size=second.shape[1] if projected else 0,
    )  # fmt: skip


def _match_plain(kind: type[nn.Module], args: dict[str, Any], tensors: Tensors) -> LayerCall:
    """Match an operator whose arguments have the names of the layer's settings."""
    return _call(kind, args)


def _match_dropout(
    kind: type[nn.Module] | None, args: dict[str, Any], tensors: Tensors
) -> LayerCall | None:
    """Match a dropout in training; one that always drops stays a call. No kind: by the map."""
    if kind is None:
        rank = len(args["input"].meta["shape"])
        kind = {3: nn.Dropout1d, 4: nn.Dropout2d, 5: nn.Dropout3d}.get(rank)
    return None if kind is None or args["train"] is True else _call(kind, args)


def _match_attention(args: dict[str, Any], tensors: Tensors) -> LayerCall | None:
    """Match an attention with dropout in training; others stay calls of the operator."""
    if not args["dropout_p"]:
        return None
    inputs = ("query", "key", "value", "attn_mask")
    return _call(DotProductAttention, args, (), inputs, p=args["dropout_p"], gqa=args["enable_gqa"])


_MATCHERS: dict[str, Matcher] = {
    **{f"conv{rank}d": _match_convolution for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": _match_convolution for rank in (1, 2, 3)},
    "linear": _match_linear,
    "batch_norm": partial(_match_norm, _BATCH, "training"),
    "instance_norm": partial(_match_norm, _INSTANCE, "use_input_stats"),
    "rms_norm": _match_layer_norm,
    "layer_norm": _match_layer_norm,
    "group_norm": _match_group_norm,
    "embedding": _match_embedding,
    "prelu": _match_prelu,
    "lstm": partial(_match_recurrent, nn.LSTM, 4),
    "gru": partial(_match_recurrent, nn.GRU, 3),
    "dropout": partial(_match_dropout, nn.Dropout),
    "feature_dropout": partial(_match_dropout, None),
    "alpha_dropout": partial(_match_dropout, nn.AlphaDropout),
    "feature_alpha_dropout": partial(_match_dropout, nn.FeatureAlphaDropout),
    "drop_path": partial(_match_plain, DropPath),
    "scaled_dot_product_attention": _match_attention,
}
