"""Networks that add themselves to their input: what may be dropped must leave something."""

import pytest
import torch
from torch import Tensor, nn

import pruner
from pruner.structure import count_macs


def make_body(channels: int = 1, out: int = 1) -> nn.Sequential:
    """Return three convolutions."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(16, out, 3, 1, 1),
    )  # fmt: skip


class Denoise(nn.Module):
    """``x - f(x)`` of DnCNN, clipped to the range of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.f = make_body()

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.f(x)).clamp(-9, 9)


class Upscale(nn.Module):
    """A learned correction of an interpolated image, scaled by a number of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.scale = make_body(out=4), nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        up = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
        return up + self.scale * nn.functional.pixel_shuffle(self.f(x), 2)


class Stages(nn.Module):
    """Two of them one after the other: either may go, both may not."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = make_body(), make_body()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.f(x)
        return x + self.g(x)


class Nested(nn.Module):
    """A residual block within the branch of the whole network, as NAFNet has many."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.f, self.tail = (
            nn.Conv2d(1, 16, 3, 1, 1),
            make_body(16, 16),
            nn.Conv2d(16, 1, 3, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        return self.tail(y + self.f(y)) + x


@pytest.mark.parametrize(
    ("kind", "blocks"), [(Denoise, []), (Upscale, []), (Stages, ["f", "g"]), (Nested, ["f"])]
)
def test_what_holds_all_weights_is_no_block(kind: type[nn.Module], blocks: list[str]) -> None:
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(8, 1, 8, 8)
    net = pruner.trace(model, (x,))
    assert list(net.blocks) == blocks
    for seed in range(12):
        plan = pruner.Plan.random(net, macs=0.5, seed=seed, drop_blocks=0.7)
        share = count_macs(net, plan.sizes(), plan.dropped_blocks()) / count_macs(net)
        assert 0.3 < share <= 0.5
        assert pruner.verify(model, net, plan) < 1e-5


def test_scores_survive_blocks_without_which_no_weight_is_left() -> None:
    torch.manual_seed(0)
    model, x = Stages().eval(), torch.randn(8, 1, 8, 8)
    net = pruner.trace(model, (x,))
    batches = [(x + 0.01 * i, model(x).detach()) for i in range(4)]
    scores = pruner.score(net, batches, lambda o, t: (o - t).square().mean(), "measured")
    assert set(scores.blocks) == {"f", "g"}
    nothing = pruner.Plan({}, {"f": False, "g": False})
    assert pruner.verify(model, net, nothing) == 0
    pruner.repair(pruner.apply(net, nothing), net, nothing, batches)
