"""Every layer of torch.nn and every core ATen operator: a rule that is exact, or a reason.

Layers and operators are discovered, so that a new version of torch shows what is missing here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruner import Plan, trace, verify
from pruner.axes import has_rule
from pruner.graph.decompositions import find_decompositions

from ..networks import shake

WIDTH = 8
CONTAINERS = {
    "Container", "Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList",
    "Sequential", "RNNBase", "RNNCellBase", "LinearCrossEntropyOptions",
}  # fmt: skip
"""Hold others, or are their base."""

PLAIN = [
    "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity",
    "LeakyReLU", "LogSigmoid", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU",
    "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink", "Dropout",
    "AlphaDropout", "FeatureAlphaDropout",
]  # fmt: skip
ON_A_MAP: dict[str, Callable[[type, int], nn.Module]] = {
    **{name: lambda kind, rank: kind() for name in PLAIN},
    "Threshold": lambda kind, rank: kind(0.1, 0.0),
    "Softmax": lambda kind, rank: kind(1),
    "LogSoftmax": lambda kind, rank: kind(1),
    "Softmin": lambda kind, rank: kind(1),
    "Softmax2d": lambda kind, rank: kind(),
    "GLU": lambda kind, rank: kind(1),
    "ChannelShuffle": lambda kind, rank: kind(2),
    "PixelShuffle": lambda kind, rank: kind(2),
    "PixelUnshuffle": lambda kind, rank: kind(2),
    "GroupNorm": lambda kind, rank: kind(2, WIDTH),
    "LocalResponseNorm": lambda kind, rank: kind(3, alpha=1.0),
    "Upsample": lambda kind, rank: kind(scale_factor=2),
    "UpsamplingBilinear2d": lambda kind, rank: kind(scale_factor=2),
    "UpsamplingNearest2d": lambda kind, rank: kind(scale_factor=2),
    "SyncBatchNorm": lambda kind, rank: kind(WIDTH),
    "Flatten": lambda kind, rank: nn.Sequential(kind(2), nn.Unflatten(2, (4, 4))),
    "Unflatten": lambda kind, rank: nn.Sequential(nn.Flatten(2), kind(2, (4, 4))),
    "Unfold": lambda kind, rank: nn.Sequential(kind(2, stride=2), nn.Fold((4, 4), 2, stride=2)),
    "Fold": lambda kind, rank: nn.Sequential(nn.Unfold(2, stride=2), kind((4, 4), 2, stride=2)),
    "LayerNorm": lambda kind, rank: kind((WIDTH, 4, 4)),
    "RMSNorm": lambda kind, rank: kind((WIDTH, 4, 4)),
    "Dropout1d": lambda kind, rank: kind(),
    "Dropout2d": lambda kind, rank: kind(),
    "Dropout3d": lambda kind, rank: kind(),
    **{f"BatchNorm{r}d": lambda kind, rank: kind(WIDTH) for r in (1, 2, 3)},
    **{f"InstanceNorm{r}d": lambda kind, rank: kind(WIDTH, affine=True) for r in (1, 2, 3)},
    **{f"Conv{r}d": lambda kind, rank: kind(WIDTH, WIDTH, 1) for r in (1, 2, 3)},
    **{f"ConvTranspose{r}d": lambda kind, rank: kind(WIDTH, WIDTH, 1) for r in (1, 2, 3)},
    **{f"{m}Pool{r}d": lambda kind, rank: kind(2) for m in ("Max", "Avg") for r in (1, 2, 3)},
    **{f"LPPool{r}d": lambda kind, rank: kind(2, 2) for r in (1, 2, 3)},
    **{f"Adaptive{m}Pool{r}d": lambda kind, rank: kind(2) for m in ("Max", "Avg")
       for r in (1, 2, 3)},
    **{f"{m}Pad{r}d": lambda kind, rank: kind(1)
       for m in ("Circular", "Reflection", "Replication", "Zero") for r in (1, 2, 3)},
    **{f"ConstantPad{r}d": lambda kind, rank: kind(1, 0.5) for r in (1, 2, 3)},
}  # fmt: skip
"""Layers between two convolutions: the width between them is free."""

FROZEN = {
    "FractionalMaxPool2d": (lambda kind: kind(2, 2), "draws its windows at random"),
    "FractionalMaxPool3d": (lambda kind: kind(2, 2), "draws its windows at random"),
    "CrossMapLRN2d": (None, "an autograd function of its own, older than export"),
}
"""Layers that lock the channels that they read, with the reason (None: not exported either)."""

LOSSES = {
    "AdaptiveLogSoftmaxWithLoss", "BCELoss", "BCEWithLogitsLoss", "CTCLoss", "CosineEmbeddingLoss",
    "CrossEntropyLoss", "GaussianNLLLoss", "HingeEmbeddingLoss", "HuberLoss", "KLDivLoss",
    "L1Loss", "LinearCrossEntropyLoss", "MSELoss", "MarginRankingLoss", "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss", "MultiMarginLoss", "NLLLoss", "NLLLoss2d", "PoissonNLLLoss",
    "SmoothL1Loss", "SoftMarginLoss", "TripletMarginLoss", "TripletMarginWithDistanceLoss",
}  # fmt: skip
"""Read a network's outputs, whose widths are the user's."""


class Between(nn.Module):
    """A convolution, a layer, and what reads its channels."""

    def __init__(self, layer: nn.Module, rank: int, reads: int | None) -> None:
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        self.a, self.layer = kind(3, WIDTH, 1), layer
        self.b = kind(reads or WIDTH, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.layer(self.a(x)))


class Applied(nn.Module):
    """Linear layers around a call."""

    def __init__(self, call: Callable[..., Tensor], reads: int = WIDTH, **layers: nn.Module):
        super().__init__()
        self.call = call
        self.a, self.b = nn.Linear(6, WIDTH), nn.Linear(reads, 5)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.call(self, self.a(x)))


def unpool(rank: int) -> nn.Module:
    class Unpooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = getattr(nn, f"MaxPool{rank}d")(2, return_indices=True)
            self.up = getattr(nn, f"MaxUnpool{rank}d")(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(*self.down(x))

    return Between(Unpooled(), rank, None)


def cell(kind: type[nn.Module]) -> nn.Module:
    def call(net: Any, x: Tensor) -> Tensor:
        state = None
        for i in range(x.shape[1]):
            state = net.cell(x[:, i], state)
        return state[0] if isinstance(state, tuple) else state

    return Applied(call, cell=kind(WIDTH, WIDTH))


def rnn(kind: Callable[..., nn.Module], reads: int = WIDTH) -> nn.Module:
    return Applied(lambda net, x: net.rnn(x)[0], reads, rnn=kind(WIDTH, WIDTH, batch_first=True))


def transformer(kind: type[nn.Module], memory: bool) -> nn.Module:
    return Applied(lambda net, x: net.body(x, x) if memory else net.body(x), body=kind)


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)


def decoder() -> nn.Module:
    return nn.TransformerDecoderLayer(WIDTH, 2, 16, batch_first=True)


SPECIAL: dict[str, Callable[[], nn.Module]] = {
    **{f"MaxUnpool{rank}d": lambda rank=rank: unpool(rank) for rank in (1, 2, 3)},
    **{name: lambda name=name: cell(getattr(nn, name)) for name in
       ("LSTMCell", "GRUCell", "RNNCell")},
    **{name: lambda name=name: rnn(getattr(nn, name)) for name in ("LSTM", "GRU", "RNN")},
    "LSTM of projected states": lambda: rnn(partial(nn.LSTM, proj_size=3), 3),
    "Linear": lambda: Applied(lambda net, x: net.c(x), c=nn.Linear(WIDTH, WIDTH)),
    "Bilinear": lambda: Applied(lambda net, x: net.c(x, x.sin()), c=nn.Bilinear(8, 8, 8)),
    "CosineSimilarity": lambda: Applied(
        lambda net, x: x * nn.CosineSimilarity(-1)(x, x.sin() + 1).unsqueeze(-1)),
    "PairwiseDistance": lambda: Applied(
        lambda net, x: x * nn.PairwiseDistance()(x, x.sin()).unsqueeze(-1)),
    "Embedding": lambda: Applied(
        lambda net, x: x + net.e((x > 0).sum(-1)), e=nn.Embedding(9, WIDTH)),
    "EmbeddingBag": lambda: Applied(
        lambda net, x: x[:, 0] + net.e((x > 0).sum(-1)), e=nn.EmbeddingBag(9, WIDTH)),
    "MultiheadAttention": lambda: Applied(
        lambda net, x: net.m(x, x, x)[0], m=nn.MultiheadAttention(WIDTH, 2, batch_first=True)),
    "TransformerEncoderLayer": lambda: transformer(encoder(), False),
    "TransformerDecoderLayer": lambda: transformer(decoder(), True),
    "TransformerEncoder": lambda: transformer(
        nn.TransformerEncoder(encoder(), 1, enable_nested_tensor=False), False),
    "TransformerDecoder": lambda: transformer(nn.TransformerDecoder(decoder(), 1), True),
    "Transformer": lambda: transformer(
        nn.Transformer(WIDTH, 2, 1, 1, 16, batch_first=True), True),
}  # fmt: skip


def find_layers() -> set[str]:
    """Return the names of torch.nn's layers; lazy ones become the others at their first call."""
    names = {n for n in nn.modules.__all__ if issubclass(getattr(nn.modules, n), nn.Module)}
    return {n for n in names if not n.startswith("Lazy")} - CONTAINERS


def test_every_layer_is_known_here():
    known = {*ON_A_MAP, *FROZEN, *LOSSES, *SPECIAL}
    assert not find_layers() - known


def rank_of(name: str) -> int:
    return int(name[-2]) if name[-2:] in ("1d", "2d", "3d") else 2


READS = {"GLU": 4, "PixelShuffle": 2, "PixelUnshuffle": 32}


def image(rank: int) -> tuple[Tensor]:
    return (torch.randn(2, 3, *[4] * rank, dtype=torch.float64),)


def check_exact(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Trace, and cut exactly by two random plans."""
    model = shake(model.double()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = trace(model, inputs, step=1)
    assert not net.axis_map.unsupported, net.frozen
    assert net.dims, net.frozen
    for seed in range(2):
        assert verify(model, net, Plan.random(net, macs=0.6, seed=seed)) < 1e-10


@pytest.mark.parametrize("name", sorted(set(ON_A_MAP) & find_layers()))
def test_a_layer_between_convolutions_is_cut_exactly(name):
    torch.manual_seed(0)
    rank = rank_of(name)
    check_exact(Between(ON_A_MAP[name](getattr(nn, name), rank), rank, READS.get(name)),
                image(rank))  # fmt: skip


@pytest.mark.parametrize("name", sorted(SPECIAL))
def test_a_layer_of_its_own_kind_is_cut_exactly(name):
    torch.manual_seed(0)
    tokens = (torch.randn(2, 4, 6, dtype=torch.float64),)
    check_exact(SPECIAL[name](), image(rank_of(name)) if "Unpool" in name else tokens)


@pytest.mark.parametrize("name", [n for n, (make, _) in FROZEN.items() if make])
def test_a_layer_without_a_rule_freezes_with_a_reason(name):
    rank = rank_of(name)
    model = Between(FROZEN[name][0](getattr(nn, name)), rank, None).double().eval()
    net = trace(model, image(rank), step=1)
    assert not net.dims
    assert any("a.weight" in frozen.tensors for frozen in net.frozen)


BACKWARD = "computes gradients, which no graph of inference holds"
INTERNAL = "torch.export writes the operator of torch.nn.functional in its place"
WITHOUT_RULE = {
    "_adaptive_avg_pool2d_backward": BACKWARD,
    "avg_pool2d_backward": BACKWARD,
    "convolution_backward": BACKWARD,
    "max_pool2d_with_indices_backward": BACKWARD,
    "_native_batch_norm_legit": INTERNAL,
    "_native_batch_norm_legit_no_training": INTERNAL,
    "convolution": INTERNAL,
    "native_group_norm": INTERNAL,
    "native_layer_norm": INTERNAL,
    "randperm": "an order that is drawn anew has no cut that equals it",
    "_local_scalar_dense": "gives a number of Python's",
    "_pdist_forward": "pairs of a batch's rows, in one axis",
    "as_strided": "reads memory, not axes",
    "empty_strided": "lays out memory, not axes",
}
"""Core operators that freeze what they touch."""


def find_core() -> dict[str, list[Any]]:
    """Return the overloads of ATen that are tagged core, by operator."""
    found: dict[str, list[Any]] = {}
    for name in dir(torch.ops.aten):
        packet = getattr(torch.ops.aten, name)
        overloads = [getattr(packet, o) for o in getattr(packet, "overloads", list)()]
        # `resize_`, the one that writes, is listed only once something has asked for it.
        core = [o for o in overloads if torch.Tag.core in o.tags and not o._schema.is_mutable]
        if core:
            found[name] = core
    return found


def test_every_core_operator_has_a_rule_or_a_reason():
    missing = {
        name
        for name, overloads in find_core().items()
        for target in overloads
        if not has_rule(target) and not find_decompositions([target], has_rule)
    }
    assert missing == set(WITHOUT_RULE)


def unary_operators() -> list[Any]:
    """Return the core operators tagged pointwise that take one tensor and nothing else."""
    return [
        target
        for overloads in find_core().values()
        for target in overloads
        if torch.Tag.pointwise in target.tags
        and [a.name for a in target._schema.arguments if not a.has_default_value()] == ["self"]
        and not target._schema.is_mutable
        and "bitwise" not in str(target)  # of integers
        and "clamp" not in str(target)  # by at least one bound
    ]


def test_elementwise_core_operators_are_cut_exactly():
    torch.manual_seed(0)
    operators = unary_operators()
    assert len(operators) > 30

    def call(net: Any, x: Tensor) -> Tensor:
        x = 0.5 + 0.4 * torch.tanh(x)  # where all of them are defined
        return sum(torch.nan_to_num(f(x).to(x.dtype)) for f in operators)

    check_exact(Applied(call), (torch.randn(2, 4, 6, dtype=torch.float64),))


BINARY = ("add", "atan2", "div", "eq", "fmod", "ge", "gt", "le", "lt", "maximum", "minimum", "mul",
          "ne", "pow", "remainder", "sub", "max", "min", "hypot")  # fmt: skip


def test_elementwise_operators_of_two_tensors_are_cut_exactly():
    def call(net: Any, x: Tensor) -> Tensor:
        x, y = 1.5 + torch.tanh(x), 1.5 + torch.tanh(net.c(x))
        return sum(getattr(torch, name)(x, y).to(y.dtype).abs() for name in BINARY)

    check_exact(
        Applied(call, c=nn.Linear(WIDTH, WIDTH)), (torch.randn(2, 4, 6, dtype=torch.float64),)
    )


COMPOSITE: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "tensor_split": lambda net, x: torch.hstack(torch.tensor_split(x, 2, 1)),
    "movedim": lambda net, x: x.movedim(1, 2).mT,
    "tensordot": lambda net, x: torch.tensordot(x, net.c.weight, dims=([2], [1])),
    "weight.T": lambda net, x: x @ net.c.weight.T,
    "inner": lambda net, x: torch.inner(x, net.c.weight),
    "matrix and vector": lambda net, x: x * (x @ net.c.bias).unsqueeze(-1),
    "fft along tokens": lambda net, x: torch.fft.irfft(torch.fft.rfft(x, dim=1), n=4, dim=1),
    "view_as_real": lambda net, x: torch.view_as_real(torch.fft.fft(x, dim=1)).sum(-1),
    "scatter_add": lambda net, x: torch.zeros_like(x).scatter_add(
        1, (x > 0).long(), x),
    "weight_norm": lambda net, x: x @ torch._weight_norm(net.c.weight, net.c.weight[:, :1], 0).T,
    "cdist": lambda net, x: x * torch.cdist(x, x.sin()).mean(-1, keepdim=True),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSITE)
def test_what_torch_takes_apart_is_cut_exactly(name):
    torch.manual_seed(0)
    model = Applied(COMPOSITE[name], c=nn.Linear(WIDTH, WIDTH))
    check_exact(model, (torch.randn(2, 4, 6, dtype=torch.float64),))
