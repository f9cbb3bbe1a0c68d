"""Refined: calibrated on such structures as a solver picks by what is known so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..structure import Importance, Network, Plan, count_macs
from .calibrated import CalibratedCriterion, random_plans
from .candidate_sample import CandidateSample

RANDOM = 30  # structures to start from
ROUNDS, EACH = 4, 10
SHARES = (0.2, 0.8)  # of the multiply-adds, of the structures of a round
SPREAD = 0.7  # standard deviation of the logarithm of what a score is mistaken by
_SEED = 104_729


class RefinedCriterion(CalibratedCriterion):
    """``calibrated``, with factors from structures near those that will be chosen.

    A solver takes what the objective flatters, and random structures tell little about that. So a
    few random structures give first factors; then, round by round, structures that are best by the
    factors known, each score disturbed at random, are cut, repaired and run, and the factors are
    fitted anew to all of them. What was flattered is found out in a round.
    """

    name = "refined"

    def __init__(
        self, *, random: int = RANDOM, rounds: int = ROUNDS, each: int = EACH, **options: Any
    ) -> None:
        super().__init__(structures=random + rounds * each, **options)
        self.random, self.rounds, self.each = random, rounds, each

    def draw_plans(self, sample: CandidateSample) -> Iterator[Plan]:
        """Draw random plans, then each round's, by what the sample tells when it begins."""
        yield from random_plans(sample.net, sample.single_cuts, self.random)
        savings = Savings.measure(sample.net)
        for number in range(self.rounds):
            importance = sample.fit_importance(self.name)
            for place, share in enumerate(np.linspace(*SHARES, self.each)):
                seed = _SEED + number * self.each + place
                yield lagrangian_plan(sample.net, importance, savings, float(share), seed)


@dataclass(frozen=True)
class Savings:
    """Multiply-adds: all, and what each Dim at its smallest and each dropped Block saves alone."""

    total: int
    dims: dict[str, int]
    blocks: dict[str, int]

    @classmethod
    def measure(cls, net: Network) -> Savings:
        """Count the multiply-adds with each cut by itself."""
        total = count_macs(net)
        dims = {n: total - count_macs(net, {n: dim.options()[0]}) for n, dim in net.dims.items()}
        return cls(total, dims, {name: total - count_macs(net, {}, [name]) for name in net.blocks})


def lagrangian_plan(
    net: Network,
    importance: Importance,
    savings: Savings,
    share: float,
    seed: int,
    spread: float = SPREAD,
) -> Plan:
    """Find the plan with the least to lose at the price per multiply-add that meets a share.

    By itself every Dim takes the size, and every Block the state, that loses least and costs least
    together: Lagrange's relaxation, with costs that add up.

    Args:
        net: The dense network.
        importance: Scores with loss curves.
        savings: What its cuts save.
        share: Of the dense multiply-adds, at most.
        seed: Of the disturbance.
        spread: Of the log-normal number that every score is multiplied by first.
    """
    rng = np.random.default_rng(seed)
    scale = {name: np.exp(spread * rng.standard_normal()) for name in (*net.dims, *net.blocks)}

    def choose(price: float) -> tuple[dict[str, int], list[str]]:
        sizes = {}
        for name, dim in net.dims.items():
            options = np.array(dim.options())
            saved = savings.dims[name] * (dim.size - options) / max(dim.size - options[0], 1)
            best = np.argmin(scale[name] * importance.loss_curves[name] - price * saved)
            sizes[name] = int(options[best])
        dropped = [
            name
            for name, loss in importance.blocks.items()
            if scale[name] * max(loss, 0.0) < price * savings.blocks[name]
        ]
        return sizes, dropped

    # Logarithms of prices at which nothing is cut and everything is.
    losses = [v[0] for v in importance.loss_curves.values()] + list(importance.blocks.values())
    high = np.log(1e3 * max([*losses, 1e-9]))
    low = high - 60.0
    for _ in range(50):
        middle = (low + high) / 2
        if count_macs(net, *choose(np.exp(middle))) > share * savings.total:
            low = middle
        else:
            high = middle
    sizes, dropped = choose(np.exp(high))
    whole = {name: tuple(range(size)) for name, size in sizes.items()}
    return Plan(whole, {name: name not in dropped for name in net.blocks}).refill(importance)
