"""Queries, keys and values of fewer channels: exact where their products have so low a rank."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pruner
from pruner.errors import PrunerWarning
from pruner.reconstruction import layer_fits, ridge
from pruner.reconstruction.logit_fits import _reduce_rank
from pruner.reconstruction.operand_sides import OperandSums
from pruner.reconstruction.reconstruct import repair
from pruner.reconstruction.ridge import Moments, fit_ridge

WIDTH, HEADS, EACH = 12, 3, 8


def lower_rank(weight: torch.Tensor, rank: int) -> None:
    """Make every head's rows of a weight [heads * width, inputs] of this rank."""
    with torch.no_grad():
        for part in weight.split(EACH):
            u, s, v = torch.linalg.svd(part, full_matrices=False)
            part.copy_(u[:, :rank] * s[:rank] @ v[:rank])


class Attention(nn.Module):
    """Self-attention, spelled in one of several ways."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.stem = nn.Linear(5, WIDTH)
        self.q, self.k, self.v = (nn.Linear(WIDTH, HEADS * EACH) for _ in range(3))
        self.qkv = nn.Linear(WIDTH, 3 * HEADS * EACH)
        self.out, self.last = nn.Linear(HEADS * EACH, WIDTH), nn.Linear(WIDTH, 4)

    def forward(self, x):
        x = self.stem(x)
        if self.how == "fused":
            qkv = self.qkv(x).unflatten(-1, (3, HEADS, EACH)).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
        else:
            q, k, v = (one(x).unflatten(-1, (HEADS, EACH)) for one in (self.q, self.k, self.v))
            if self.how == "einsum":
                mix = torch.einsum("blhd,bmhd->bhlm", q, k) * EACH**-0.5
                mixed = torch.einsum("bhlm,bmhd->blhd", mix.softmax(-1), v)
                return self.last(x + self.out(mixed.flatten(2)))
            q, k, v = (one.transpose(1, 2) for one in (q, k, v))
        if self.how == "matmul":
            mix = (q * EACH**-0.5) @ k.transpose(-2, -1) / 1.5
            mixed = mix.softmax(-1) @ v
        elif self.how == "linear":  # no softmax: what all keys share counts
            mixed = (q @ k.transpose(-2, -1)) / 20 @ v
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.last(x + self.out(mixed.transpose(1, 2).flatten(2)))


class Library(nn.Module):
    """torch's own attention, rows first."""

    def __init__(self, weights: bool, batch_first: bool):
        super().__init__()
        self.weights = weights
        self.stem = nn.Linear(5, HEADS * EACH)
        self.own = nn.MultiheadAttention(HEADS * EACH, HEADS, batch_first=batch_first)
        self.last = nn.Linear(HEADS * EACH, 4)

    def forward(self, x):
        x = self.stem(x)
        return self.last(x + self.own(x, x, x, need_weights=self.weights)[0])


SPELLED = {
    **{how: (lambda how=how: Attention(how)) for how in ("fused", "sdpa", "matmul", "einsum")},
    "linear": lambda: Attention("linear"),
    "library": lambda: Library(False, True),
    "library's weights": lambda: Library(True, False),
}


def list_projections(model):
    """Weights of queries and of values."""
    if isinstance(model, Library):
        return model.own.in_proj_weight.detach().chunk(3)[::2]
    if model.how == "fused":
        return model.qkv.weight.detach().chunk(3)[::2]
    return model.q.weight, model.v.weight


def cut_kind(net, kind, size):
    """A plan that keeps the first channels of all Dims of a kind."""
    keep = {name: tuple(range(size)) for name, dim in net.dims.items() if dim.kind == kind}
    assert keep
    return pruner.Plan(keep, {})


def measure(small, net, x):
    with torch.no_grad():
        return float((small(x) - net.module(x)).square().mean() / net.module(x).var())


@pytest.mark.parametrize("how", sorted(SPELLED))
@pytest.mark.parametrize("kind", ["qk", "v"])
def test_products_of_low_rank_are_kept_whole(how, kind):
    torch.manual_seed(0)
    model = SPELLED[how]().eval()
    query, value = list_projections(model)
    with torch.no_grad():
        query.mul_(4)
    lower_rank(query if kind == "qk" else value, 3)
    x = torch.randn(20, 6, 5)
    net = pruner.trace(model, (x[:2],))
    plan = cut_kind(net, kind, 4)  # three directions, and the bias one more
    small = pruner.apply(net, plan)
    before = measure(small, net, x)
    fitted = repair(small, net, plan, [(part, None) for part in x.split(10)])
    assert len(fitted) >= 2
    assert before > 1e-5 and measure(small, net, x) < 1e-3 * before


def test_what_is_left_of_a_products_rank_is_what_singular_values_say():
    """Errors of pairs of independent queries and keys, against numpy's singular values."""
    dice = torch.Generator().manual_seed(0)
    x = torch.randn(400, 9, generator=dice, dtype=torch.float64)
    wq, wk = (torch.randn(9, 6, generator=dice, dtype=torch.float64) for _ in range(2))

    def collect(weight):
        held = object.__new__(OperandSums)
        held.train, held.held_out = Moments(1, 9, 6), Moments(1, 9, 6)
        held.train.add(x[None, ::2], (x @ weight)[None, ::2])
        held.held_out.add(x[None, 1::2], (x @ weight)[None, 1::2])
        held.rows, held.x, held.y = len(x), x.sum(0), (x @ weight).sum(0)
        held.where = type("Where", (), {"channels": torch.arange(4)[None]})()
        return held, fit_ridge(held.train, held.held_out, weight[None], biased=False)

    (query, first), (key, second) = collect(wq), collect(wk)
    (new_q, _), (new_k, _) = _reduce_rank([first, second], query, key, torch.zeros(1).long(), False)
    apart = (x @ wq) @ (x @ wk).T - (x @ new_q[0]) @ (x @ new_k[0]).T
    values = np.linalg.svd(((x @ wq) @ (x @ wk).T).numpy(), compute_uv=False)
    assert float(apart.square().sum()) == pytest.approx(float((values[4:] ** 2).sum()), rel=1e-6)


class Grouped(nn.Module):
    """Every key head serves two query heads."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(10, 32), nn.Linear(10, 16), nn.Linear(10, 16)
        self.out = nn.Linear(32, 10)

    def forward(self, x):
        q = self.q(x).unflatten(-1, (4, 8)).transpose(1, 2)
        k, v = (
            one(x).unflatten(-1, (2, 8)).transpose(1, 2)[:, :, None].expand(-1, -1, 2, -1, -1)
            .flatten(1, 2) for one in (self.k, self.v)
        )  # fmt: skip
        mix = (q @ k.transpose(-2, -1) * 8**-0.5).softmax(-1)
        return x + self.out((mix @ v).transpose(1, 2).flatten(2))


class Crossed(nn.Module):
    """Queries of one input, keys and values of another, an additive mask between."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 12), nn.Linear(7, 10)
        self.q, self.k, self.v = nn.Linear(12, 24), nn.Linear(10, 24), nn.Linear(10, 24)
        self.out = nn.Linear(24, 5)

    def forward(self, x, z, mask):
        h, m = self.a(x).relu(), self.b(z).relu()
        q, k, v = (
            p(t).view(len(x), -1, 3, 8).permute(0, 2, 1, 3)
            for p, t in ((self.q, h), (self.k, m), (self.v, m))
        )
        mix = torch.matmul(q, k.transpose(2, 3)) / 8**0.5 + mask[:, None, None]
        return self.out((mix.softmax(-1) @ v).transpose(1, 2).flatten(2))


def draw_crossed(count):
    mask = torch.zeros(count, 9)
    mask[:, 7:] = -1e4
    return torch.randn(count, 5, 6), torch.randn(count, 9, 7), mask


OTHERS = {
    "grouped": (Grouped, lambda n: (torch.randn(n, 6, 10),)),
    "crossed": (Crossed, draw_crossed),
}


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_cuts_of_attention_of_other_forms_are_made_good_in_part(name):
    torch.manual_seed(0)
    make, draw = OTHERS[name]
    model = make().eval()
    with torch.no_grad():
        model.q.weight.mul_(3)
    x = draw(40)
    net = pruner.trace(model, tuple(one[:2] for one in x))
    plan = cut_kind(net, "qk", 5)
    small = pruner.apply(net, plan)

    def off():
        with torch.no_grad():
            return float((small(*x) - net.module(*x)).square().mean())

    before = off()
    fitted = repair(small, net, plan, [(x, None)])
    assert {"q", "k"} <= set(fitted)
    assert off() < 0.8 * before


class Scaled(nn.Module):
    """A branch whose end is scaled by channel, turned to another layout, and rolled."""

    def __init__(self, least=0.5):
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 8, 1), nn.Linear(8, 20)
        self.second = nn.Linear(20, 8)
        self.scale = nn.Parameter(torch.linspace(least, 2, 8)[:, None, None])
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = self.stem(x)
        h = self.second(functional.gelu(self.first(x.permute(0, 2, 3, 1))))
        return self.head(x + self.scale * h.permute(0, 3, 1, 2).roll((1, 2), (2, 3)))


@pytest.mark.parametrize("least", [0.5, 0.0])
def test_a_scaled_branch_is_fitted_to_its_sum_as_by_numpy(least, monkeypatch):
    monkeypatch.setattr(ridge, "RIDGES", (1e-9,))
    torch.manual_seed(0)
    model, x = Scaled(least).eval(), torch.randn(12, 3, 4, 4)
    net = pruner.trace(model, (x[:2],))
    plan = pruner.Plan({n: tuple(range(d.size - d.size // 4)) for n, d in net.dims.items()}, {})
    small = pruner.apply(net, plan)
    old = small.second.weight.detach().clone()
    repair(small, net, plan, [(x, None)], spatial_samples=10**6, check=False)
    with torch.no_grad():
        dense = net.module
        skip = dense.stem(x)
        turned = dense.second(functional.gelu(dense.first(skip.permute(0, 2, 3, 1))))
        goal = skip + dense.scale * turned.permute(0, 3, 1, 2).roll((1, 2), (2, 3))
        own = small.stem(x)
        rows = functional.gelu(small.first(own.permute(0, 2, 3, 1))).flatten(0, 2)
        rest = (goal[:, :6] - own).roll((-1, -2), (2, 3)).permute(0, 2, 3, 1).flatten(0, 2)
    design = np.concatenate([rows.numpy(), np.ones((len(rows), 1))], 1).astype(float)
    expected = np.linalg.lstsq(design, rest.double().numpy(), rcond=None)[0]
    scale = small.scale.detach().flatten().double().numpy()
    found = np.concatenate([small.second.weight.detach().double().numpy().T,
                            small.second.bias.detach().double().numpy()[None]])  # fmt: skip
    start = 1 if least == 0 else 0
    errors = [
        ((design @ w - rest.double().numpy()) ** 2).mean(0) for w in (found * scale, expected)
    ]
    assert np.allclose(errors[0][start:], errors[1][start:], rtol=2e-3)
    if start:
        assert torch.equal(small.second.weight[0], old[0])


def make_timm(name, **more):
    return lambda: pytest.importorskip("timm").create_model(
        name, num_classes=10, drop_path_rate=0.1, **more
    )


def make_bert():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64,
    )  # fmt: skip
    return transformers.BertModel(config, add_pooling_layer=False)


def make_torchvision():
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10)
    nn.init.normal_(model.heads.head.weight)  # zeros at first
    return model


NETWORKS = {
    "vit": (make_timm("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2,
                      num_heads=4, init_values=0.3), 2, True),
    "swin": (make_timm("swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=16,
                       depths=(2, 2), num_heads=(2, 4)), 4, True),
    "convnext": (make_timm("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32),
                           ls_init_value=0.5), 4, False),
    "torchvision": (make_torchvision, 2, True),
    "bert": (make_bert, 2, True),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_branches_and_products_of_libraries_are_found(name, monkeypatch):
    """Every block's end is fitted to its sum, every product is fitted, and nothing gets worse."""
    torch.manual_seed(0)
    make, blocks, attends = NETWORKS[name]
    model = make().eval()
    x = torch.randint(0, 50, (20, 9)) if name == "bert" else torch.randn(20, 3, 32, 32)
    net = pruner.trace(model, (x[:2],))
    plan = pruner.Plan({n: tuple(range(max(1, d.size // 2))) for n, d in net.dims.items()}, {})
    sums = []
    made = layer_fits.LayerFit.__init__

    def note(self, task, *more):
        sums.append(task.residual is not None)
        made(self, task, *more)

    monkeypatch.setattr(layer_fits.LayerFit, "__init__", note)
    small = pruner.apply(net, plan)

    def off():
        with torch.no_grad():
            found = [one(x) for one in (small, net.module)]
        ours, theirs = (y[0] if isinstance(y, tuple) else getattr(y, "last_hidden_state", y)
                        for y in found)  # fmt: skip
        return float((ours - theirs).square().mean())

    before = off()
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrunerWarning)
        fitted = repair(small, net, plan, [(part, None) for part in x.split(10)])
    assert sum(sums) >= blocks * (2 if attends else 1)
    assert off() < 0.9 * before
    assert fitted
