"""Trials: structures at the very budget, tuned for a moment and run before one is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import solver

from ..errors import PrunerError
from ..importance import CandidateSample
from ..problem import formulate
from ..structure import Plan
from ..utils import digest_json

if TYPE_CHECKING:
    from latency_tables import LatencyTable

    from ..structure import Importance, Network

STEPS = 64  # of tuning, where a structure will be tuned
FIRST = 6  # structures before anything is fitted
SPREAD = 0.5  # standard deviation of the logarithm of what a score is mistaken by
TOGETHER = 0.7  # the same of all Blocks together, against all Dims
LEVELS = 4  # of what is left of the budget: from nothing to what the table may be off by
UNKNOWN, LARGEST = 0.1, 0.2  # of a table that does not say it; and at most
TIME_LIMIT_S = 10.0
_SEED = 15_485_863


@dataclass(frozen=True)
class Candidate:
    """A structure that was tried, what it loses, and the proof that by its scores none is better.

    loss is the divergence of its class probabilities from the dense network's, in nats.
    """

    plan: Plan
    solution: solver.Solution
    loss: float


def evaluate_candidates(
    net: Network,
    table: LatencyTable,
    importance: Importance,
    batches: Iterable[tuple[Any, Any]],
    budget: str | float,
    trials: int,
    *,
    steps: int = STEPS,
    margin: float = 0.0,
    within: Plan | None = None,
    journal: Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> tuple[Candidate, ...]:
    """Structures that the solver picks at a budget, tuned for a moment; what loses least is first.

    The solver takes what the objective flatters, and where much is cut, cuts neither add up nor do
    they lose in the end what they lose at first: tuning makes good one thing more than another.
    So that many structures are solved for at this budget, each by other scores, cut, repaired,
    tuned for some steps towards the dense network's answers, and run on images that they have not
    learnt from. The first scores are those given, and these disturbed at random: each by itself,
    and Blocks against Dims. Then, in turn, factors of the scores are fitted to what all structures
    have lost (see `pruner.importance.calibrated`); such fitted scores are disturbed; and those that
    were best so far are, by half as much. What the solver picks is also what the table flatters:
    three of four structures leave some of the budget, up to what the table may be off by, so that
    on the device some of the best will meet it.

    importance
        Scores with loss curves: of the criteria measured, calibrated, refined or reconstruction.
    batches
        Calibration images. Labels are not looked at.
    steps
        Of tuning, a batch each; 0 where the chosen structure will be repaired only.
    budget, margin, within
        As `formulate` takes them.
    journal
        A file that what structures lose is written to, one after the other: the same call looks it
        up there and continues.

    Raises PrunerError for scores without loss curves. Where nothing meets the budget, nothing is
    tried.
    """
    if not importance.loss_curves:
        raise PrunerError(
            f"trials: criterion {importance.criterion!r} says nothing of whole widths; choose "
            "measured, calibrated, refined or reconstruction"
        )
    sample = CandidateSample.prepare(net, importance, list(batches), steps)
    off = UNKNOWN if table.error is None else min(table.error.p95, LARGEST)
    best = importance
    known = _read(journal)
    seen: set[str] = set()
    found: list[Candidate] = []
    for number in range(trials):
        free = max(margin, off * (number % LEVELS) / (LEVELS - 1))
        for scores in _guesses(sample, best, number):
            solution = _solved(net, table, scores, budget, free, within)
            if solution.choice is None:
                break
            plan = Plan.from_solution(net, solution, scores, within)
            key = digest_json(plan.to_json())
            if key not in seen:
                seen.add(key)
                loss = sample.add(plan, known.get(key))
                if journal is not None and key not in known:
                    _append(journal, key, loss)
                if np.isfinite(loss):  # or its tuning blew up
                    if all(loss < other.loss for other in found):
                        best = scores
                    found.append(Candidate(plan, solution, loss))
                break
        if progress is not None:
            progress(number + 1, trials)
    return tuple(sorted(found, key=lambda trial: trial.loss))


def _read(journal: Path | None) -> dict[str, float]:
    """Losses by the structures' fingerprints; a line that was cut off counts for nothing."""
    known = {}
    if journal is not None and journal.is_file():
        for line in journal.read_text(encoding="utf-8").splitlines():
            match line.split(" "):
                case ["lost", key, loss, "."]:
                    known[key] = float(loss)
    return known


def _append(journal: Path, key: str, loss: float) -> None:
    journal.parent.mkdir(parents=True, exist_ok=True)
    with open(journal, "a", encoding="utf-8") as stream:
        stream.write(f"\nlost {key} {loss!r} .")


def _guesses(sample: CandidateSample, best: Importance, number: int) -> Iterator[Importance]:
    """Scores to solve by, until one of them gives a structure that was not tried yet."""
    known, spread = sample.single_cuts, 1.0
    if len(sample.terms) >= FIRST:
        known = sample.fit_importance(known.criterion)
    if number % 3 == 0:
        yield known
    elif number % 3 == 2 and len(sample.terms) >= FIRST:
        known, spread = best, 0.5
    dice = np.random.default_rng(_SEED + number)
    for wider in (1.0, 1.4, 2.0):
        yield _disturbed(known, wider * spread, dice)


def _disturbed(importance: Importance, spread: float, dice: np.random.Generator) -> Importance:
    def factor(deviation: float) -> float:
        return float(np.exp(spread * deviation * dice.standard_normal()))

    together = factor(TOGETHER)
    return replace(
        importance,
        loss_curves={name: factor(SPREAD) * rise for name, rise in importance.loss_curves.items()},
        blocks={n: together * factor(SPREAD) * lost for n, lost in importance.blocks.items()},
    )


def _solved(
    net: Network,
    table: LatencyTable,
    importance: Importance,
    budget: str | float,
    margin: float,
    within: Plan | None,
) -> solver.Solution:
    problem = formulate(net, table, importance, budget, margin=margin, within=within)
    found = solver.solve(problem, time_limit_s=TIME_LIMIT_S)
    if found.status is solver.Status.INTERRUPTED:
        raise KeyboardInterrupt
    return found
