"""Whole structures with what they lose, and factors of the scores that foretell it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear, nnls
from torch import nn

from ..data import Batch, count_samples
from ..graph import find_device, move_to_device
from ..problem import objective_terms
from ..structure import Importance, Network, Plan
from ..tasks import NetworkCalls, Task
from .divergence import run_batches, structure_divergence
from .short_finetune import distill_briefly

Floats = NDArray[np.float64]

REPAIRED_ON = 128
"""Samples that a structure is repaired on; it is measured on the others."""
RIDGE = 0.1
LEAST = 0.1


@dataclass
class CandidateSample:
    """Structures that were cut, repaired on few samples and run on the others.

    Attributes:
        net: The dense network.
        single_cuts: The scores of single cuts.
        task: Calls the networks and compares their outputs.
        repair_calls: What the network is called with on the samples to repair on.
        test_batches: Samples to measure on.
        dense: The dense network's outputs of these.
        examples: What a structure is tuned on before it is run (see `distill_briefly`).
        steps: Of that tuning.
        terms: [structures, terms] of the objective by single_cuts.
        losses: [structures] divergence from the dense network.
    """

    net: Network
    single_cuts: Importance
    task: Task
    repair_calls: NetworkCalls
    test_batches: list[Batch]
    dense: list[Any]
    examples: list[tuple[Any, Any]]
    steps: int
    terms: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @classmethod
    def prepare(
        cls, net: Network, single_cuts: Importance, batches: list[Batch], steps: int = 0,
        task: Task | None = None,
    ) -> CandidateSample:  # fmt: skip
        """Share out the batches and run the dense network; no structure is measured yet."""
        task = task or Task()
        few = [b for k, b in enumerate(batches) if k * count_samples(b[0]) < REPAIRED_ON]
        others = batches[len(few) :] or batches
        train: list[Batch] = []
        if steps:  # what was learnt by heart does not count
            train = [b for k, b in enumerate(batches) if k % 4 != 3]
            others = batches[3::4] or batches
        inputs = [move_to_device(x, find_device(net.module)) for x, _ in train]
        examples = list(zip(inputs, run_batches(net.module, train, task), strict=True))
        dense = list(run_batches(net.module, others, task))
        calls = NetworkCalls.record(task, net.module, few)
        return cls(net, single_cuts, task, calls, others, dense, examples, steps)

    def add(self, plan: Plan, loss: float | None = None) -> float:
        """Return what a structure loses, measured unless given; it joins the sample if finite."""
        if loss is None:
            loss = structure_divergence(
                self.net, plan, self.repair_calls, self.test_batches, self.dense,
                task=self.task, then=self._tune,
            )  # fmt: skip
        if np.isfinite(loss):
            values = objective_terms(
                self.net, self.single_cuts, plan.sizes(), plan.dropped_blocks()
            )
            self.terms.append([-value for value in values])
            self.losses.append(loss)
        return loss

    def _tune(self, module: nn.Module) -> None:
        if self.steps:
            distill_briefly(module, self.examples, self.steps, self.task)

    def fit_importance(self, name: str) -> Importance:
        """Multiply each curve and Block of the single cuts by its fitted factor."""
        factors = fit_weights(np.array(self.terms), np.array(self.losses))
        curves, blocks = self.single_cuts.loss_curves, self.single_cuts.blocks
        return replace(
            self.single_cuts,
            criterion=name,
            loss_curves={n: f * curves[n] for n, f in zip(curves, factors)},
            blocks={n: f * blocks[n] for n, f in zip(blocks, factors[len(curves) :], strict=True)},
        )


def fit_weights(terms: Floats, losses: Floats) -> Floats:
    """Fit factors f such that ``terms @ f`` and a constant are near ``losses`` [structures].

    Least squares in relative error, with a ridge towards the one factor that fits best alone, and
    no factor below ``LEAST`` of that: nothing comes for free because few structures have cut it.
    The constant takes up that cuts together lose less than their sum, or more, at the depth of
    these structures; as the same for all it moves no choice. terms is [structures, terms].
    """
    weights = 1 / np.maximum(losses, 0.05 * np.median(losses) + 1e-12)
    design = terms * weights[:, None]
    target = losses * weights
    alone = np.stack([design.sum(1), weights], 1)
    common = float(nnls(alone, target)[0][0]) or float(target.sum() / max(design.sum(), 1e-300))
    # Terms that hardly vary are held by it, those that tell much are not.
    strength = np.sqrt(RIDGE * len(terms)) * float(design.std(0).mean())
    count = terms.shape[1]
    held = np.concatenate([strength * np.eye(count), np.zeros((count, 1))], 1)
    free = np.concatenate([design, weights[:, None]], 1)
    least = np.append(np.full(count, LEAST * common), -np.inf)
    found = lsq_linear(
        np.concatenate([free, held]),
        np.concatenate([target, np.full(count, strength * common)]),
        (least, np.inf),
    )
    return np.asarray(found.x[:-1], np.float64)
