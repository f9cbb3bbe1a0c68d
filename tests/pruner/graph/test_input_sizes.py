"""Another size than traced: right where the graph does not know it, else refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import pruner
from pruner import Plan, apply, trace, verify
from pruner.errors import PrunerError, PrunerWarning


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = (
            nn.Conv2d(3, 16, 3, 2, 1),
            nn.Conv2d(16, 16, 3, 1, 1),
            nn.Conv2d(16, 4, 1),
        )

    def forward(self, x):
        return self.finish(self.b(self.a(x).relu()).relu(), x)

    def finish(self, x, image):
        return self.o(x)


class Pooled(Stem):
    def finish(self, x, image):
        return self.o(functional.adaptive_avg_pool2d(x, 1)).flatten(1)


class Scaled(Stem):
    def finish(self, x, image):
        return self.o(functional.interpolate(x, scale_factor=2, mode="bilinear"))


class Resized(Stem):
    def finish(self, x, image):
        return self.o(functional.interpolate(x, size=image.shape[-2:], mode="bilinear"))


class Averaged(Stem):
    def finish(self, x, image):
        return self.o(x).sum((2, 3)) / x.shape[2] / x.shape[3]


class Padded(Stem):
    def forward(self, x):
        return super().forward(functional.pad(x, (0, -x.shape[3] % 8, 0, -x.shape[2] % 8)))


class Placed(Stem):
    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.randn(1, 16, 16, 16))

    def finish(self, x, image):
        if x.shape[2:] != self.place.shape[2:]:
            raise ValueError("another size")
        return self.o(x + self.place)


class Windows(Stem):
    def finish(self, x, image):
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, 4, 4)
        x = self.o(x) * x.mean((2, 3), keepdim=True)[:, :4]
        return x.reshape(n, h // 4, w // 4, 4, 4, 4).sum((1, 2))


FREE, KEPT = (Stem, Pooled, Scaled), (Resized, Averaged, Padded, Windows)


@pytest.mark.parametrize("kind", (*FREE, *KEPT))
def test_another_size_is_right_or_refused(kind, tmp_path):
    torch.manual_seed(0)
    model = kind().eval()
    net = pruner.trace(model, (torch.randn(2, 3, 32, 32),))
    pruner.save(pruner.apply(net, pruner.Plan.dense(net)), None, tmp_path)
    for module in (net.module, pruner.load(tmp_path)):
        for shape in ((48, 48), (64, 32), (33, 47), (31, 32)):
            x = torch.randn(1, 3, *shape)
            if kind in KEPT:
                with pytest.raises(PrunerError, match=r"takes an input of \*x\*x32x32, got 1x3x"):
                    module(x)
            else:
                assert torch.allclose(module(x), model(x), atol=1e-5)
        x = torch.randn(3, 3, 32, 32)
        assert torch.allclose(module(x), model(x), atol=1e-5)


def test_a_graph_that_refuses_by_itself_is_left_alone():
    net = pruner.trace(Placed().eval(), (torch.randn(2, 3, 32, 32),))
    assert not net.program.sizes
    with pytest.raises(RuntimeError, match="must match"):
        net.module(torch.randn(1, 3, 48, 48))


def test_arguments_of_equal_sizes_are_varied_together():
    class Tokens(nn.Module):
        def __init__(self, read):
            super().__init__()
            self.e, self.o, self.read = nn.Embedding(9, 16), nn.Linear(16, 3), read

        def forward(self, ids, mask):
            x = self.o(self.e(ids) * mask[..., None])
            return x.sum(1) / (x.shape[1] if self.read else mask.sum(1, keepdim=True))

    ids, mask = torch.arange(14).reshape(2, 7) % 9, torch.ones(2, 7)
    longer = torch.arange(22).reshape(2, 11) % 9, torch.ones(2, 11)
    free = Tokens(False).eval()
    net = pruner.trace(free, (ids, mask))
    assert not net.program.sizes and torch.allclose(net.module(*longer), free(*longer), atol=1e-6)
    net = pruner.trace(Tokens(True).eval(), (ids, mask))
    assert net.program.sizes == {"ids": (None, 7), "mask": (None, 7)}
    with pytest.raises(PrunerError, match="Trace the model with the size"):
        net.module(*longer)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [False, True])
def test_states_of_recurrent_layers_are_of_their_batch(kind, batch_first):
    """A state of another batch made oneDNN write beyond it, and the process abort."""
    model = kind(4, 6, 2, bidirectional=True, batch_first=batch_first).eval()
    net = pruner.trace(model, (torch.randn(3, 5, 4),))
    longer = torch.randn(3, 7, 4)
    if batch_first:
        assert torch.allclose(net.module(longer)[0], model(longer)[0], atol=1e-5)
    else:
        with pytest.raises(PrunerError, match="takes an input of"):
            net.module(longer)


class TwoViews(nn.Module):
    """Encodes two views of every image as one batch and takes them apart in some way."""

    def __init__(self, take_apart):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3)
        self.take_apart = take_apart

    def forward(self, x, y):
        views = self.second(self.first(torch.cat([x, y])).relu())
        one, other = self.take_apart(views, x)
        return (one * other).mean((2, 3))


@pytest.mark.parametrize(
    "take_apart",
    [
        lambda views, x: torch.chunk(views, 2, dim=0),
        lambda views, x: views.chunk(chunks=2),
        lambda views, x: torch.split(views, x.shape[0]),
        lambda views, x: views.split(split_size=views.shape[0] // 2, dim=0),
        lambda views, x: (views[: len(x)], views[len(x) :]),
        lambda views, x: (views[::2] / len(x), views[1::2]),
        lambda views, x: views.reshape(2, int(x.shape[0]), 8, 5, 5).unbind(),
    ],
)
def test_a_batch_in_equal_parts_stays_free(take_apart):
    model = TwoViews(take_apart).eval()
    net = trace(model, tuple(torch.randn(2, 2, 3, 9, 9)))
    assert net.fixed_batch is None
    plan = Plan.random(net, macs=0.5, seed=0)
    assert verify(model, net, plan, inputs=tuple(torch.randn(2, 5, 3, 9, 9))) < 1e-5


@pytest.mark.parametrize(
    "take_apart",
    [
        lambda views, x: [torch.stack([views[2 * i + j] for i in range(len(x))]) for j in (0, 1)],
        lambda views, x: [torch.stack(list(views)[j :: len(list(x))]) for j in (0, 1)],
    ],
)
def test_another_batch_than_a_constant_one_is_refused(take_apart):
    model = TwoViews(take_apart).eval()
    with pytest.warns(PrunerWarning, match="batch of 2 only"):
        net = trace(model, tuple(torch.randn(2, 2, 3, 9, 9)))
    small = apply(net, Plan.random(net, macs=0.5, seed=0))
    small(*torch.randn(2, 2, 3, 9, 9))
    with pytest.raises(PrunerError, match="2x"):
        small(*torch.randn(2, 3, 3, 9, 9))


class Small(Stem):
    """Has code of its own for images below 32 pixels."""

    def finish(self, x, image):
        x = self.o(x)
        return x if image.shape[-1] >= 32 else 2 * x


class Prior(nn.Module):
    """Weighs features by a map of a quarter of the image's side."""

    def __init__(self, read):
        super().__init__()
        self.a, self.b, self.o = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 16, 1), nn.Linear(16, 4)
        self.read = read

    def forward(self, image, prior):
        x = (self.b(self.a(image).relu()).relu() * prior).sum((2, 3))
        area = prior.shape[2] * prior.shape[3] if self.read else prior.sum((2, 3))
        return self.o(x / area)


def test_code_for_smaller_images_is_met():
    net = pruner.trace(Small().eval(), (torch.randn(2, 3, 32, 32),))
    with pytest.raises(PrunerError, match="takes an input of"):
        net.module(torch.randn(1, 3, 16, 16))


@pytest.mark.parametrize("read", [False, True])
def test_inputs_that_grow_together_are_varied_together(read):
    model = Prior(read).eval()
    net = pruner.trace(model, (torch.randn(2, 3, 32, 32), torch.rand(2, 1, 8, 8)))
    larger = torch.randn(2, 3, 48, 64), torch.rand(2, 1, 12, 16)
    if read:
        with pytest.raises(PrunerError, match="takes an input of"):
            net.module(*larger)
    else:
        assert torch.allclose(net.module(*larger), model(*larger), atol=1e-5)
        plan = Plan.random(net, macs=0.5, seed=0)
        assert verify(model, net, plan, inputs=larger) < 1e-5


def test_code_for_larger_images_is_met():
    class Large(Stem):
        def finish(self, x, image):
            return self.o(functional.avg_pool2d(x, 2) if max(image.shape[2:]) > 200 else x)

    net = pruner.trace(Large().eval(), (torch.randn(1, 3, 128, 128),))
    with pytest.raises(PrunerError, match="takes an input of"):
        net.module(torch.randn(1, 3, 256, 256))
