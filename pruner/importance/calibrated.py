"""Calibrated: measured scores, weighed by what whole structures were found to lose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear, nnls
from torch import Tensor, nn

from ..problem import objective_terms
from ..structure import Importance, Network, Plan
from .layer_statistics import inputs_of
from .measured import Batch, Measured, first_input, run_batches, structure_divergence
from .network_criterion import Loss, Progress
from .short_finetune import distill_briefly

Floats = NDArray[np.float64]

STRUCTURES = 60
REPAIRED_ON = 128  # images; the others are measured on
SHARES = (0.35, 0.85)  # of the multiply-adds, between which structures are drawn
DROPPED = 0.1  # chance of a block
RIDGE = 0.1
LEAST = 0.1
# Of the random structures: those that a user or a benchmark draws have small seeds.
_SEED = 7_919_000


class Calibrated(Measured):
    """`Measured`, with a factor on every Dim's curve and on every Block.

    Cuts that were measured one by one do not add up: what one loses another has lost already, or
    makes worse. So random structures are cut and repaired as they would be used, their divergence
    from the dense network is measured, and factors are fitted such that the objective foretells it,
    in relative error; a ridge holds them near a common one. Structures are repaired on
    some images and measured on the others.
    """

    name = "calibrated"

    def __init__(self, *, structures: int = STRUCTURES, **options: Any) -> None:
        super().__init__(**options)
        self.structures = structures

    def score(
        self,
        net: Network,
        batches: Iterable[tuple[Any, Any]],
        loss: Loss | None,
        progress: Progress | None = None,
    ) -> Importance:
        """See `Whole.score`."""
        batches = list(batches)
        steps = 0

        def tell(done: int, total: int | None) -> None:
            nonlocal steps
            steps = total or done
            if progress is not None:
                progress(done, None if total is None else total + self.structures)

        sample = CandidateSample.prepare(net, super().score(net, batches, loss, tell), batches)
        for number, plan in enumerate(self.plans(sample)):
            sample.add(plan)
            if progress is not None:
                progress(steps + number + 1, steps + self.structures)
        return sample.fit_importance(self.name)

    def plans(self, sample: CandidateSample) -> Iterator[Plan]:
        """As many as ``structures``, one after the other; each is in the sample before the next."""
        return random_plans(sample.net, sample.single_cuts, self.structures)


@dataclass
class CandidateSample:
    """Whole structures with what they lose: cut and repaired on few images, run on the others.

    single_cuts are the scores of single cuts; base is what the dense network answers to the others;
    lessons, if any, are what a structure learns from in that many steps before it is run (see
    `pruner.importance.lesson`); terms[structure] are the objective's terms by single_cuts.
    """

    net: Network
    single_cuts: Importance
    few: list[Batch]
    others: list[Batch]
    base: list[Tensor]
    lessons: list[tuple[tuple[Tensor, ...], Tensor]]
    steps: int
    terms: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @classmethod
    def prepare(
        cls, net: Network, single_cuts: Importance, batches: list[Batch], steps: int = 0
    ) -> CandidateSample:
        few = [b for k, b in enumerate(batches) if k * len(first_input(b)) < REPAIRED_ON]
        others = batches[len(few) :] or batches
        studied: list[Batch] = []
        if steps:  # what was learnt by heart does not count
            studied = [b for k, b in enumerate(batches) if k % 4 != 3]
            others = batches[3::4] or batches
        lessons = list(zip(inputs_of(net.module, studied), run_batches(net.module, studied)))
        return cls(
            net, single_cuts, few, others, list(run_batches(net.module, others)), lessons, steps
        )

    def add(self, plan: Plan, known: float | None = None) -> float:
        """What the structure loses, found out or known already; not taken in if not finite."""
        if known is None:
            known = structure_divergence(
                self.net, plan, self.few, self.others, self.base, then=self._learn
            )
        if np.isfinite(known):
            values = objective_terms(self.net, self.single_cuts, plan.sizes(), plan.dropped())
            self.terms.append([-value for value in values])
            self.losses.append(known)
        return known

    def _learn(self, module: nn.Module) -> None:
        if self.steps:
            distill_briefly(module, self.lessons, self.steps)

    def fit_importance(self, name: str) -> Importance:
        """The scores of single cuts, each curve and Block by a factor."""
        factors = fit_weights(np.array(self.terms), np.array(self.losses))
        curves, blocks = self.single_cuts.loss_curves, self.single_cuts.blocks
        return replace(
            self.single_cuts,
            criterion=name,
            loss_curves={n: f * curves[n] for n, f in zip(curves, factors)},
            blocks={n: f * blocks[n] for n, f in zip(blocks, factors[len(curves) :], strict=True)},
        )


def random_plans(net: Network, importance: Importance, count: int) -> Iterator[Plan]:
    """Random structures with the indices that these scores keep."""
    for number, share in enumerate(np.linspace(*SHARES, count)):
        plan = Plan.random(net, macs=float(share), seed=_SEED + number, drop_blocks=DROPPED)
        yield plan.filled(importance)


def fit_weights(rows: Floats, losses: Floats) -> Floats:
    """Factors f [terms] such that ``rows @ f`` and a constant are near ``losses`` [structures].

    Least squares in relative error, with a ridge towards the one factor that fits best alone, and
    no factor below ``LEAST`` of that: nothing comes for free because few structures have cut it.
    The constant takes up that cuts together lose less than their sum, or more, at the depth of
    these structures; as the same for all it moves no choice.
    """
    weights = 1 / np.maximum(losses, 0.05 * np.median(losses) + 1e-12)
    design = rows * weights[:, None]
    target = losses * weights
    alone = np.stack([design.sum(1), weights], 1)
    common = float(nnls(alone, target)[0][0]) or float(target.sum() / max(design.sum(), 1e-300))
    # Terms that hardly vary are held by it, those that tell much are not.
    strength = np.sqrt(RIDGE * len(rows)) * float(design.std(0).mean())
    terms = rows.shape[1]
    held = np.concatenate([strength * np.eye(terms), np.zeros((terms, 1))], 1)
    free = np.concatenate([design, weights[:, None]], 1)
    least = np.append(np.full(terms, LEAST * common), -np.inf)
    found = lsq_linear(
        np.concatenate([free, held]),
        np.concatenate([target, np.full(terms, strength * common)]),
        (least, np.inf),
    )
    return np.asarray(found.x[:-1], np.float64)
