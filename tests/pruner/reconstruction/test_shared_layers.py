"""Layers that are called several times are fitted to all of their calls."""

import pytest
import torch
from torch import nn

import pruner
from pruner.importance.layer_statistics import collect_statistics
from pruner.reconstruction.reconstruct import repair


class Backbone(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(),
            nn.Conv2d(16, 4, 1),
        )  # fmt: skip


class Pair(nn.Module):
    """One backbone for two images."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, a, b):
        return self.backbone(a), self.backbone(b)


class Listed(Pair):
    """The same, held under a second name, by which it is called for the second image."""

    def __init__(self, backbone):
        super().__init__(backbone)
        self.both = nn.ModuleList([backbone, backbone])

    def forward(self, a, b):
        return self.both[0](a), self.both[1](b)


class Refining(nn.Module):
    """A step that is taken three times, each from the one before."""

    def __init__(self):
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 4, 1)
        self.step = nn.Sequential(nn.Conv2d(16, 24, 1), nn.Tanh(), nn.Conv2d(24, 16, 1))

    def forward(self, x):
        x = self.stem(x)
        for _ in range(3):
            x = x + 0.5 * self.step(x)
        return self.last(x)


class Levels(nn.Module):
    """A head on two levels, each with a batch norm of its own behind the shared convolution."""

    def __init__(self):
        super().__init__()
        self.stem, self.shared = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 24, 3)
        self.norms = nn.ModuleList([nn.BatchNorm2d(24), nn.BatchNorm2d(24)])
        self.last = nn.Conv2d(24, 4, 1)

    def forward(self, x):
        x = self.stem(x).relu()
        levels = x, nn.functional.avg_pool2d(x, 2)
        return tuple(
            self.last(norm(self.shared(level)).relu()) for norm, level in zip(self.norms, levels)
        )


def measure(small, net, batches):
    pairs = zip((small(*x) for x, _ in batches), (net.module(*x) for x, _ in batches), strict=True)
    as_tuple = lambda y: y if isinstance(y, tuple) else (y,)  # noqa: E731
    with torch.no_grad():
        return sum(
            float((p - q).square().mean())
            for one, two in pairs
            for p, q in zip(as_tuple(one), as_tuple(two), strict=True)
        )


@pytest.mark.parametrize("kind", [Pair, Listed])
def test_two_calls_are_fitted_as_one_call_on_both_images(kind):
    torch.manual_seed(0)
    backbone = Backbone().eval()
    a, b = torch.randn(2, 10, 3, 10, 10).unbind()
    plain = pruner.trace(backbone, (a,))
    shared = pruner.trace(kind(backbone), (a, b))
    plan = pruner.Plan.random(plain, macs=0.5)
    names = dict(zip(plain.dims, shared.dims, strict=True))
    assert [d.size for d in plain.dims.values()] == [d.size for d in shared.dims.values()]
    twin = pruner.Plan({names[name]: kept for name, kept in plan.keep.items()}, {})
    one, two = pruner.apply(plain, plan), pruner.apply(shared, twin)
    fitted = repair(one, plain, plan, [((torch.cat([a, b]),), None)], spatial_samples=100)
    again = repair(two, shared, twin, [((a, b), None)], spatial_samples=100)
    assert len(fitted) == len(again) == 2
    for (name, x), (_, y) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        assert torch.allclose(x, y, atol=1e-4), name


@pytest.mark.parametrize("kind", [Refining, Levels])
def test_what_is_called_again_comes_nearer_to_the_dense_network(kind):
    torch.manual_seed(0)
    model = kind().train()
    batches = [((torch.randn(10, 3, 12, 12),), None) for _ in range(3)]
    for _ in range(30):  # statistics that are the data's
        model(*batches[0][0])
    model.eval()
    net = pruner.trace(model, batches[0][0])
    plan = pruner.Plan.random(net, macs=0.6, seed=2)
    small = pruner.apply(net, plan)
    before = measure(small, net, batches)
    layers = repair(small, net, plan, batches)
    assert len(layers) == len(set(layers)) >= 2
    assert measure(small, net, batches) < 0.7 * before


def test_moments_of_two_calls_are_those_of_one_on_both_images():
    torch.manual_seed(0)
    backbone = Backbone().eval()
    a, b = torch.randn(2, 10, 3, 10, 10).unbind()
    plain, shared = pruner.trace(backbone, (a,)), pruner.trace(Listed(backbone), (a, b))
    once = collect_statistics(plain, [((torch.cat([a, b]),), None)], 100)
    twice = collect_statistics(shared, [((a, b), None)], 100)
    for one, two in zip(once.readers.values(), twice.readers.values(), strict=True):
        assert len(one) == len(two) == 1
        assert torch.allclose(one[0].gram, two[0].gram, rtol=1e-4, atol=1e-5)
