"""Every variant of torch's attention layers: heads, QK and V are Dims, and cuts of them exact."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pruner import Plan, apply, trace, verify

WIDTH, HEADS = 16, 4
QUERIES, KEYS = 5, 7


def _pad_keys() -> Tensor:
    mask = torch.zeros(2, KEYS, dtype=torch.bool)
    mask[1, 4:] = True
    return mask


def _expand_heads(m: nn.MultiheadAttention, q: Tensor) -> Tensor:
    """A mask [batch * heads, L, S], its size computed in the graph."""
    batch = q.shape[0 if m.batch_first else 1]
    return torch.ones(QUERIES, KEYS).triu(2).expand(batch * m.num_heads, QUERIES, KEYS)


def _repeat_heads(m: nn.MultiheadAttention, q: Tensor) -> Tensor:
    batch = q.shape[0 if m.batch_first else 1]
    return torch.ones(QUERIES, KEYS).triu(3).bool().repeat(batch * m.num_heads, 1, 1)


class _CrossAttention(nn.Module):
    """Queries on keys and values of other widths, between linear layers; batch first outside."""

    def __init__(self, make_mask: Any = None, **settings: Any) -> None:
        super().__init__()
        self.call = {key: settings.pop(key) for key in ("need_weights", "average_attn_weights")
                     if key in settings}  # fmt: skip
        self.a = nn.Linear(6, WIDTH)
        self.k = nn.Linear(6, settings.get("kdim") or WIDTH)
        self.v = nn.Linear(6, settings.get("vdim") or WIDTH)
        self.m = nn.MultiheadAttention(WIDTH, HEADS, **settings)
        self.out, self.make_mask = nn.Linear(WIDTH, 3), make_mask

    def forward(self, x: Tensor, y: Tensor, **given: Any) -> Any:
        first = self.m.batch_first
        x, y = (x, y) if first else (x.transpose(0, 1), y.transpose(0, 1))
        q = self.a(x)
        mask = None if self.make_mask is None else self.make_mask(self.m, q)
        z, weights = self.m(q, self.k(y), self.v(y), attn_mask=mask, **given, **self.call)
        z = self.out(z if first else z.transpose(0, 1))
        return z if weights is None else (z, weights)


PADDING = {"key_padding_mask": _pad_keys()}
CROSS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "other widths": ({"kdim": 10, "vdim": 12}, {}),
    "other widths, no bias": ({"kdim": 10, "bias": False, "need_weights": False}, {}),
    "a bias of keys": ({"add_bias_kv": True, "need_weights": False}, PADDING),
    "a key of zeros": ({"add_zero_attn": True}, {}),
    "both, other widths": ({"add_zero_attn": True, "add_bias_kv": True, "vdim": 12}, PADDING),
    "float padding": ({}, {"key_padding_mask": torch.randn(2, KEYS)}),
    "a mask of heads, expanded": ({"make_mask": _expand_heads, "need_weights": False}, PADDING),
    "a mask of heads, repeated": ({"make_mask": _repeat_heads}, {}),
    "dropout": ({"dropout": 0.1}, PADDING),
}


def _check(model: nn.Module, inputs: tuple[Tensor, ...], given: Any, expect: set[str]) -> None:
    """Trace, find these Dims and nothing frozen but outputs, cut exactly, train as before."""
    model.eval()
    net = trace(model, inputs, given, step=1)
    assert expect <= {dim.kind for dim in net.dims.values()}
    assert not net.axis_map.unsupported
    expected_reasons = {"an output of the network", "attended over"}
    expected_reasons.add("no operator reads it in evaluation")  # encoders have one input only
    assert {f.reason for f in net.frozen} <= expected_reasons
    assert verify(model, net, Plan.random(net, 0.4, seed=1, drop_blocks=0.2)) < 1e-6
    least = {name: tuple(range(dim.options()[0])) for name, dim in net.dims.items()}
    assert verify(model, net, Plan(least, dict.fromkeys(net.blocks, True))) < 1e-6
    model.train()
    net.module.train()
    torch.manual_seed(3)
    expected = model(*inputs, **given)
    torch.manual_seed(3)
    torch.testing.assert_close(net.module(*inputs, **given), expected)


SEQUENCE_FIRST = ("both, other widths", "a mask of heads, expanded", "dropout")


@pytest.mark.parametrize(
    ("name", "batch_first"),
    [*((name, True) for name in CROSS), *((name, False) for name in SEQUENCE_FIRST)],
)
def test_multihead_attention(name: str, batch_first: bool) -> None:
    torch.manual_seed(0)
    settings, given = CROSS[name]
    model = _CrossAttention(**settings, batch_first=batch_first)
    inputs = torch.randn(2, QUERIES, 6), torch.randn(2, KEYS, 6)
    _check(model, inputs, given, {"heads", "qk", "v"})


def test_weights_of_single_heads_are_an_output_and_hold_the_heads() -> None:
    model = _CrossAttention(average_attn_weights=False, batch_first=True).eval()
    net = trace(model, (torch.randn(2, QUERIES, 6), torch.randn(2, KEYS, 6)))
    assert "m.heads" not in net.dims and {"m.qk", "m.v"} <= set(net.dims)
    assert any("m.in_proj_weight" in f.tensors for f in net.frozen)


class _Wrapped(nn.Module):
    """A transformer between linear layers."""

    def __init__(self, body: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.i, self.j, self.o = nn.Linear(6, WIDTH), nn.Linear(6, WIDTH), nn.Linear(WIDTH, 3)
        self.body, self.call = body, call

    def forward(self, x: Tensor, y: Tensor, **given: Any) -> Tensor:
        result: Tensor = self.o(self.call(self.body, self.i(x), self.j(y), **given))
        return result


def _causal() -> Tensor:
    return nn.Transformer.generate_square_subsequent_mask(QUERIES)


def _encoder_layer(**settings: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 24, batch_first=True, **settings)


def _decoder_layer(**settings: Any) -> nn.TransformerDecoderLayer:
    return nn.TransformerDecoderLayer(WIDTH, HEADS, 24, batch_first=True, **settings)


def _pad_queries() -> Tensor:
    mask = torch.zeros(2, QUERIES, dtype=torch.bool)
    mask[1, 3:] = True
    return mask


TRANSFORMERS: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor], dict[str, Any]]] = {
    "encoder, a causal mask that is not told": (
        lambda: nn.TransformerEncoder(_encoder_layer(), 2, enable_nested_tensor=False),
        lambda m, x, y: m(x, _causal()), {}),
    "encoder, silu, norm first, padding": (
        lambda: _encoder_layer(activation=functional.silu, norm_first=True, bias=False),
        lambda m, x, y, pad: m(x, src_key_padding_mask=pad), {"pad": _pad_queries()}),
    "decoder, a causal mask that is not told": (
        lambda: nn.TransformerDecoder(_decoder_layer(), 1, norm=nn.LayerNorm(WIDTH)),
        lambda m, x, y: m(x, y, tgt_mask=_causal()), {}),
    "decoder, all masks": (
        lambda: _decoder_layer(norm_first=True, activation="gelu"),
        lambda m, x, y, pad, skip: m(
            x, y, tgt_mask=_causal(), memory_mask=torch.zeros(QUERIES, KEYS), tgt_is_causal=True,
            tgt_key_padding_mask=pad.float(), memory_key_padding_mask=skip),
        {"pad": _pad_queries(), "skip": _pad_keys()}),
    "transformer": (
        lambda: nn.Transformer(WIDTH, HEADS, 1, 1, 24, batch_first=True),
        lambda m, x, y, skip: m(
            y, x, src_mask=torch.zeros(KEYS, KEYS), tgt_mask=_causal(), src_key_padding_mask=skip),
        {"skip": _pad_keys()}),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name: str) -> None:
    torch.manual_seed(0)
    make, call, given = TRANSFORMERS[name]
    inputs = torch.randn(2, QUERIES, 6), torch.randn(2, KEYS, 6)
    _check(_Wrapped(make(), call), inputs, given, {"heads", "qk", "v", "hidden"})


class _Grouped(nn.Module):
    """Attention by hand, with fewer heads of keys than of queries."""

    def __init__(self, call: Callable[..., Tensor], shared: int) -> None:
        super().__init__()
        self.q, self.o = nn.Linear(6, HEADS * 4), nn.Linear(HEADS * 6, 3)
        self.k, self.v = nn.Linear(6, shared * 4), nn.Linear(6, shared * 6)
        self.call, self.shared = call, shared

    def forward(self, x: Tensor, y: Tensor, **given: Any) -> Tensor:
        q = self.q(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        k, v = (f(y).unflatten(-1, (self.shared, -1)).transpose(1, 2) for f in (self.k, self.v))
        result: Tensor = self.o(self.call(q, k, v, **given).transpose(1, 2).flatten(2))
        return result


_attend = functional.scaled_dot_product_attention


def _attend_alibi(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Slopes of heads that the graph computes from their numbers."""
    slopes = (2.0 ** -torch.arange(1, HEADS + 1)).view(1, HEADS, 1, 1)
    distance = torch.arange(KEYS)[None] - torch.arange(QUERIES)[:, None]
    return _attend(q, k, v, attn_mask=slopes * -distance.abs(), enable_gqa=True)


GROUPED: dict[str, tuple[Callable[..., Tensor], int, dict[str, Any]]] = {
    "shared heads": (lambda q, k, v: _attend(q, k, v, enable_gqa=True, is_causal=True), 2, {}),
    "one shared head": (lambda q, k, v: _attend(q, k, v, enable_gqa=True, scale=0.3), 1, {}),
    "shared heads, a mask": (
        lambda q, k, v, mask: _attend(q, k, v, attn_mask=mask, enable_gqa=True), 2,
        {"mask": torch.randn(2, 1, QUERIES, KEYS)}),
    "slopes of heads": (_attend_alibi, 2, {}),
    "by hand, filled": (
        lambda q, k, v, **given: (q @ k.mT / 2).masked_fill(
            given["mask"], float("-inf")).softmax(-1) @ v,
        HEADS, {"mask": torch.randn(2, 1, QUERIES, KEYS) > 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPED)
def test_scaled_dot_product_attention(name: str) -> None:
    torch.manual_seed(0)
    call, shared, given = GROUPED[name]
    inputs = torch.randn(2, QUERIES, 6), torch.randn(2, KEYS, 6)
    _check(_Grouped(call, shared), inputs, given, {"heads", "qk", "v"})


class _Functional(nn.Module):
    """``F.multi_head_attention_forward`` with weights of its own."""

    def __init__(self, separate: bool, zero: bool) -> None:
        super().__init__()
        self.a, self.b, self.o = nn.Linear(6, WIDTH), nn.Linear(6, WIDTH), nn.Linear(WIDTH, 3)
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(WIDTH, WIDTH) * 0.2) for _ in range(3)] if separate
            else [nn.Parameter(torch.randn(3 * WIDTH, WIDTH) * 0.2)])  # fmt: skip
        self.bias = nn.Parameter(torch.randn(3 * WIDTH) * 0.2)
        self.out, self.zero = nn.Linear(WIDTH, WIDTH), zero

    def forward(self, x: Tensor, y: Tensor, pad: Tensor) -> Any:
        q, k = self.a(x).transpose(0, 1), self.b(y).transpose(0, 1)
        names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        separate = dict(zip(names, self.weights)) if len(self.weights) == 3 else {}
        z, weights = functional.multi_head_attention_forward(
            q, k, k, WIDTH, HEADS, None if separate else self.weights[0], self.bias, None, None,
            self.zero, 0.1, self.out.weight, self.out.bias, training=self.training,
            key_padding_mask=pad, use_separate_proj_weight=bool(separate), **separate)  # fmt: skip
        return self.o(z.transpose(0, 1)), weights


@pytest.mark.parametrize("separate", [True, False])
def test_the_function_called_directly(separate: bool) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, QUERIES, 6), torch.randn(2, KEYS, 6), _pad_keys()
    _check(_Functional(separate, not separate), inputs, {}, {"heads", "qk", "v"})


def test_a_cut_constant_is_a_buffer_that_state_dict_leaves_out() -> None:
    model = _Grouped(_attend_alibi, HEADS).eval()
    net = trace(model, (torch.randn(2, QUERIES, 6), torch.randn(2, KEYS, 6)))
    small = apply(net, Plan({"heads": (1, 3)}, {}))
    assert set(small.state_dict()) == set(model.state_dict())
    assert [b.tolist() for b in small.buffers() if b.shape == (2,)] == [[2, 4]]
