"""Candidates: structures at one budget, distilled for a moment and run before one is chosen."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import solver
from latency_tables import LatencyTable

from ..errors import PrunerError
from ..importance import CandidateSample
from ..problem import Budget, Constraints, formulate
from ..structure import Importance, Network, Plan
from ..tasks import Task
from ..utils import append_line, digest_json, read_lines

STEPS = 64  # of distillation, where a structure will be fine-tuned
FIRST = 6  # structures before scores are fitted
SPREAD = 0.5  # standard deviation of the logarithm of a score's error
TOGETHER = 0.7  # the same of all Blocks together, against all Dims
LEVELS = 4  # of the margin: from nothing to the table's error
UNKNOWN, LARGEST = 0.1, 0.2  # error of a table that does not say it; and at most
TIME_LIMIT_S = 10.0
_SEED = 15_485_863


@dataclass(frozen=True)
class Candidate:
    """A structure that was evaluated.

    Attributes:
        plan: What it keeps.
        solution: The proof that by its scores none is better.
        loss: The divergence of its outputs from the dense network's, as the task measures it.
    """

    plan: Plan
    solution: solver.Solution
    loss: float


def evaluate_candidates(
    net: Network,
    table: LatencyTable,
    importance: Importance,
    batches: Iterable[tuple[Any, Any]],
    budget: Budget | str | float,
    trials: int,
    *,
    task: Task | None = None, steps: int = STEPS, margin: float = 0.0,
    within: Plan | None = None, constraints: Constraints | None = None,
    journal: Path | None = None, progress: Callable[[int, int | None], None] | None = None,
) -> tuple[Candidate, ...]:  # fmt: skip
    """Solve for structures at a budget by different scores and rank them by the loss they measure.

    The solver takes what the objective flatters, and losses of single cuts neither add up nor say
    what tuning makes good. So every structure is cut, repaired, distilled from the dense network
    for some steps, and run on samples that it has not learnt from. The first scores are those given
    and these disturbed at random, each by itself and Blocks against Dims; then, in turn, scores
    fitted to all losses so far (`pruner.importance.calibrated`), such scores disturbed, and the
    best so far disturbed by half as much. Three of four structures leave a margin of up to the
    table's error, so that some of the best will meet the budget on the device.

    Args:
        net: The network to prune.
        table: Latencies of its cells.
        importance: Scores of a criterion with loss curves.
        batches: Calibration samples; targets are not looked at.
        budget: As `formulate` takes it.
        trials: How often to solve: the number of candidates at most.
        task: Compares the networks' outputs (None: by the outputs' kind).
        steps: Of distillation, a batch each; 0 where the chosen structure will only be repaired.
        margin: The share of the budget that every candidate leaves at least.
        within: The plan of an earlier round, whose rest may be cut (see `formulate`).
        constraints: What else every structure must meet.
        journal: A file that the losses are written to: the same call looks them up and continues.
        progress: Called with the number of trials done and of all.

    Returns:
        The candidates, the least loss first; none where nothing meets the budget.

    Raises:
        PrunerError: Scores without loss curves, a malformed budget or one above dense.
    """
    if not importance.loss_curves:
        raise PrunerError(
            f"trials: criterion {importance.criterion!r} says nothing of whole widths; choose "
            "measured, calibrated, refined or reconstruction"
        )
    budget = Budget.coerce(budget)
    sample = CandidateSample.prepare(net, importance, list(batches), steps, task)
    asked = _Question(table, budget, within, constraints)
    search = _CandidateSearch(asked, sample, importance, _Journal(journal))
    error = UNKNOWN if table.error is None else min(table.error.p95, LARGEST)
    for number in range(trials):
        search.add_candidate(number, max(margin, error * (number % LEVELS) / (LEVELS - 1)))
        if progress is not None:
            progress(number + 1, trials)
    return tuple(sorted(search.candidates, key=lambda candidate: candidate.loss))


class _Journal:
    """Losses by the structures' fingerprints, kept in a file."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = [] if path is None else read_lines(path)
        self.losses: dict[str, float] = {key: loss for key, loss in lines}

    def record(self, key: str, loss: float) -> None:
        """Append a loss that is not known yet."""
        if self.path is not None and key not in self.losses:
            append_line(self.path, [key, loss])


@dataclass(frozen=True)
class _Question:
    """What is asked of every structure."""

    table: LatencyTable
    budget: Budget
    within: Plan | None
    constraints: Constraints | None


@dataclass
class _CandidateSearch:
    """The state of one call of `evaluate_candidates`; best are the scores of the best so far."""

    asked: _Question
    sample: CandidateSample
    best: Importance
    journal: _Journal
    seen: set[str] = field(default_factory=set)
    candidates: list[Candidate] = field(default_factory=list)

    def add_candidate(self, number: int, margin: float) -> None:
        """Evaluate a structure that is new, if the scores of this trial lead to one."""
        for scores in self.propose_scores(number):
            solution = self.solve(scores, margin)
            if solution.choice is None:
                return
            plan = Plan.from_solution(self.sample.net, solution, scores, self.asked.within)
            key = digest_json(plan.to_json())
            if key not in self.seen:
                self.seen.add(key)
                loss = self.sample.add(plan, self.journal.losses.get(key))
                self.journal.record(key, loss)
                if np.isfinite(loss):  # or its distillation blew up
                    if all(loss < other.loss for other in self.candidates):
                        self.best = scores
                    self.candidates.append(Candidate(plan, solution, loss))
                return

    def propose_scores(self, number: int) -> Iterator[Importance]:
        """Yield scores to solve by, ever more disturbed, until one leads to a new structure.

        Of three trials one begins undisturbed and one is around the best scores so far.
        """
        known, spread = self.sample.single_cuts, 1.0
        if len(self.sample.terms) >= FIRST:
            known = self.sample.fit_importance(known.criterion)
        if number % 3 == 0:
            yield known
        elif number % 3 == 2 and len(self.sample.terms) >= FIRST:
            known, spread = self.best, 0.5
        rng = np.random.default_rng(_SEED + number)
        for wider in (1.0, 1.4, 2.0):
            yield _disturb(known, wider * spread, rng)

    def solve(self, scores: Importance, margin: float) -> solver.Solution:
        """Solve for the best structure by these scores; an interrupt goes on to the caller."""
        asked = self.asked
        problem = formulate(
            self.sample.net, asked.table, scores, asked.budget,
            margin=margin, within=asked.within, constraints=asked.constraints,
        )  # fmt: skip
        solution = solver.solve(problem, time_limit_s=TIME_LIMIT_S)
        if solution.status is solver.Status.INTERRUPTED:
            raise KeyboardInterrupt
        return solution


def _disturb(importance: Importance, spread: float, rng: np.random.Generator) -> Importance:
    """Multiply every loss curve and Block by a log-normal factor, and all Blocks by one more."""

    def draw_factor(deviation: float) -> float:
        return float(np.exp(spread * deviation * rng.standard_normal()))

    together = draw_factor(TOGETHER)
    curves, blocks = importance.loss_curves, importance.blocks
    return replace(
        importance,
        loss_curves={name: draw_factor(SPREAD) * curve for name, curve in curves.items()},
        blocks={name: together * draw_factor(SPREAD) * loss for name, loss in blocks.items()},
    )
