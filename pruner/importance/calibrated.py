"""Calibrated: measured scores, weighed by what whole structures were found to lose."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..data import Batch
from ..structure import Importance, Network, Plan
from ..tasks import Task
from .base import Callback, Loss
from .candidate_sample import CandidateSample
from .measured import MeasuredCriterion

STRUCTURES = 60
SHARES = (0.35, 0.85)  # of the multiply-adds, between which structures are drawn
DROPPED = 0.1  # chance of a block
# Of the random structures: those that a user or a benchmark draws have small seeds.
_SEED = 7_919_000


class CalibratedCriterion(MeasuredCriterion):
    """``measured``, with a factor on every Dim's curve and on every Block.

    Cuts that were measured one by one do not add up: what one loses another has lost already, or
    makes worse. So random structures are cut and repaired as they would be used, their divergence
    from the dense network is measured, and factors are fitted such that the objective foretells it,
    in relative error; a ridge holds them near a common one. Structures are repaired on
    some samples and measured on the others.
    """

    name = "calibrated"

    def __init__(self, *, structures: int = STRUCTURES, **options: Any) -> None:
        super().__init__(**options)
        self.structures = structures

    def score(
        self, net: Network, batches: Iterable[Batch], loss: Loss | None, progress: Callback = None,
        task: Task | None = None,
    ) -> Importance:  # fmt: skip
        """Measure single cuts, then whole structures; see `NetworkCriterion.score`."""
        batches, cuts = list(batches), self.count_cuts(net)

        def report(done: int, total: int | None) -> None:
            if progress is not None:
                progress(done, cuts + self.structures)

        single_cuts = super().score(net, batches, loss, report, task)
        sample = CandidateSample.prepare(net, single_cuts, batches, task=task)
        for number, plan in enumerate(self.draw_plans(sample), cuts + 1):
            sample.add(plan)
            report(number, None)
        return sample.fit_importance(self.name)

    def draw_plans(self, sample: CandidateSample) -> Iterator[Plan]:
        """Draw ``structures`` plans in turn; each joins the sample before the next is drawn."""
        return random_plans(sample.net, sample.single_cuts, self.structures)


def random_plans(net: Network, importance: Importance, count: int) -> Iterator[Plan]:
    """Draw random structures with the indices that these scores keep."""
    for number, share in enumerate(np.linspace(*SHARES, count)):
        plan = Plan.random(net, macs=float(share), seed=_SEED + number, drop_blocks=DROPPED)
        yield plan.refill(importance)
