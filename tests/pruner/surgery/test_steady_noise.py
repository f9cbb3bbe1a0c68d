"""Networks that draw random numbers are compared on the same ones."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pruner import Plan, apply, trace, verify


class Sampled(nn.Module):
    """Draws what its decoder reads from a distribution that its encoder gives."""

    def __init__(self, draw: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 16), nn.Linear(12, 5)
        self.mean, self.deviation = nn.Linear(16, 12), nn.Linear(16, 12)
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x).relu()
        result: Tensor = self.decoder(self.draw(self.mean(x), self.deviation(x).exp()))
        return result


DRAWS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "noise like another": lambda m, s: m + s * torch.randn_like(s),
    "noise of a shape": lambda m, s: m + s * torch.randn(s.shape),
    "normal": lambda m, s: torch.normal(m, s),
    "distribution": lambda m, s: torch.distributions.Normal(m, s, validate_args=False).rsample(),
    "in place": lambda m, s: m + s * torch.empty_like(s).uniform_(-1, 1),
    "bernoulli": lambda m, s: m + s * torch.bernoulli(m.sigmoid()),
    "gumbel": lambda m, s: s * functional.gumbel_softmax(m, dim=-1),
    "dropout": lambda m, s: functional.dropout(m * s, 0.5, training=True),
}


@pytest.mark.parametrize("name", DRAWS)
def test_random_networks_are_cut_exactly(name):
    torch.manual_seed(0)
    model = Sampled(DRAWS[name]).eval()
    net = trace(model, (torch.randn(2, 6),))
    assert len(net.dims) == 2, net.frozen
    plan = Plan.random(net, macs=0.5, seed=0)
    assert verify(model, net, plan) < 1e-5
    small, x = apply(net, plan), torch.randn(2, 6)
    assert not torch.equal(small(x), small(x))
