"""Weights that are computed: their roles, their cut, and what scales them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune

import pruner


class Computed(nn.Module):
    """Two layers whose weights some function of a parameter gives, and a plain one."""

    def __init__(self, compute, *more):
        super().__init__()
        self.first = nn.Parameter(torch.randn(16, 3, 3, 3) * 0.3)
        self.second = nn.Parameter(torch.randn(24, 16, 1, 1) * 0.3)
        self.gate = nn.Parameter(torch.rand(24) + 0.5)
        self.last, self.compute = nn.Conv2d(24, 4, 1), compute
        self.register_buffer("mask", torch.rand(24, 16, 1, 1) > 0.3)
        self.register_buffer("zero", torch.zeros(24, dtype=torch.int32))

    def forward(self, x):
        x = torch.tanh(functional.conv2d(x, self.compute(self.first, self)))
        return self.last(torch.tanh(functional.conv2d(x, self.compute(self.second, self))))


def standardize(w, _):
    mean, std = w.mean((1, 2, 3), keepdim=True), w.std((1, 2, 3), keepdim=True)
    return (w - mean) / (std + 1e-5)


def standardize_by_batch_norm(w, _):
    flat = functional.batch_norm(w.reshape(1, w.shape[0], -1), None, None, training=True)
    return flat.reshape_as(w)


FUNCTIONS = {
    "softplus": lambda w, _: functional.softplus(w),
    "standardized": standardize,
    "standardized by batch norm": standardize_by_batch_norm,
    "normalized": lambda w, _: functional.normalize(w, dim=1),
    "by a number": lambda w, _: w / w.abs().mean(),
    "by the largest": lambda w, _: w.tanh() / w.tanh().abs().max(),
    "spectral": lambda w, _: w / torch.linalg.vector_norm(w),
    "binary": lambda w, _: w.sign() * w.abs().mean((1, 2, 3), keepdim=True),
    "fake quantized": lambda w, _: torch.fake_quantize_per_tensor_affine(w, 0.02, 0, -128, 127),
    "transposed twice": lambda w, _: w.transpose(0, 1).contiguous().transpose(0, 1),
    "expanded": lambda w, _: w.unsqueeze(0).expand(2, -1, -1, -1, -1).mean(0),
    "two": lambda w, _: torch.cat([w[: len(w) // 2].chunk(2)[0], w[len(w) // 4 :]], 0),
}


def own_mask(w, net):
    return w * net.mask * net.gate.view(-1, 1, 1, 1) if len(w) == 24 else w


def own_channels(w, net):
    if len(w) != 24:
        return w
    scale = net.gate.detach() * 0.01
    return torch.fake_quantize_per_channel_affine(w, scale, net.zero, 0, -128, 127)


def find_shares(net):
    least = {dim.name: dim.options()[0] for dim in net.dims.values()}
    return {name: size / net.dims[name].size for name, size in least.items()}


@pytest.mark.parametrize("compute", [*FUNCTIONS.values(), own_mask, own_channels],
                         ids=[*FUNCTIONS, "masked", "fake quantized channels"])  # fmt: skip
def test_computed_weights_are_cut_as_plain_ones_are(compute):
    torch.manual_seed(0)
    model, x = Computed(compute).eval(), torch.randn(2, 3, 8, 8)
    net = pruner.trace(model, (x,))
    assert sum(dim.size for dim in net.dims.values()) == 16 + 24
    roles = {(slot.tensor, slot.axis): slot.role for d in net.dims.values() for slot in d.slots}
    assert roles["first", 0] == "out"
    assert (roles["second", 0], roles["second", 1]) == ("out", "in")
    cells = {slot.cell for d in net.dims.values() for slot in d.slots if slot.tensor == "second"}
    assert None not in cells
    for seed in (0, 1):
        plan = pruner.Plan.random(net, macs=0.5, seed=seed)
        assert pruner.verify(model, net, plan) < 1e-5
    small = pruner.apply(net, plan)
    assert set(model.state_dict()) <= set(small.state_dict())
    copy.deepcopy(small)
    small(x).square().mean().backward()
    assert small.first.grad is not None
    assert small.second.grad is not None


@pytest.mark.parametrize("name", ["by a number", "by the largest", "spectral"])
def test_what_is_left_of_a_weight_is_as_large_as_it_was(name):
    torch.manual_seed(0)
    model = Computed(FUNCTIONS[name]).eval()
    net = pruner.trace(model, (torch.randn(2, 3, 8, 8),))
    small = pruner.apply(net, pruner.Plan.random(net, macs=0.3))
    scale = [value for key, value in small.state_dict().items() if "scale" in key]
    assert len(scale) == 2
    assert any("held" in note for note in net.program.notes)


def build(normalize):
    return nn.Sequential(
        normalize(nn.Conv1d(3, 16, 3)), nn.ReLU(), normalize(nn.Conv1d(16, 24, 3)), nn.ReLU(),
        normalize(nn.ConvTranspose1d(24, 16, 3)), nn.ReLU(), nn.Conv1d(16, 4, 1),
    )  # fmt: skip


class Twice(nn.Module):
    def forward(self, w):
        return w * 2


def mask(layer):
    return prune.ln_structured(layer, "weight", 0.3, n=2, dim=0)


def nest(layer):
    parametrize.register_parametrization(parametrizations.weight_norm(layer), "weight", Twice())
    return layer


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "normalize",
    [nn.utils.weight_norm, parametrizations.weight_norm, nn.utils.spectral_norm,
     parametrizations.spectral_norm, mask, nest],
    ids=["weight hook", "weight", "spectral hook", "spectral", "mask", "nested"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_normalized_weights_keep_their_scale_and_their_names(normalize, training):
    torch.manual_seed(0)
    model, x = build(normalize).train(training), torch.randn(2, 3, 16)
    model(x)
    net = pruner.trace(model, (x,))
    assert model.training is training
    assert sorted(dim.size for dim in net.dims.values()) == [16, 16, 24]
    plan = pruner.Plan.random(net, macs=0.5)
    assert pruner.verify(model, net, plan) < 1e-5
    small = pruner.apply(net, plan)
    assert set(model.state_dict()) <= set(small.state_dict())
    parameters = dict(small.named_parameters())
    small(x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in parameters.values())


@pytest.mark.parametrize("kind", [None, "cayley", "householder"])
def test_a_weight_computed_as_a_whole_becomes_a_parameter(kind):
    torch.manual_seed(0)

    def make(*sizes):
        return parametrizations.orthogonal(nn.Linear(*sizes), orthogonal_map=kind)

    model = nn.Sequential(make(8, 16), nn.ReLU(), make(16, 12), nn.ReLU(), nn.Linear(12, 4)).eval()
    net = pruner.trace(model, (torch.randn(2, 8),))
    assert sorted(dim.size for dim in net.dims.values()) == [12, 16]
    assert pruner.verify(model, net, pruner.Plan.random(net, macs=0.5)) < 1e-5


def test_a_square_weight_used_both_ways_keeps_its_axes_apart():
    class Tied(nn.Module):
        """An autoencoder of a stream with itself: the decoder is the encoder, transposed."""

        def __init__(self):
            super().__init__()
            self.a, self.w, self.b = nn.Linear(8, 16), nn.Parameter(torch.randn(16, 16)), None
            self.z = nn.Linear(16, 4)

        def forward(self, x):
            x = self.a(x)
            return self.z(x + functional.linear(x, self.w).relu() @ self.w * 0.5)

    torch.manual_seed(0)
    model = Tied().eval()
    net = pruner.trace(model, (torch.randn(2, 8),))
    assert net.dims
    assert pruner.verify(model, net, pruner.Plan.random(net, macs=0.5)) < 1e-5
