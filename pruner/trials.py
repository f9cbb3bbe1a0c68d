"""Trials: structures at the very budget, tuned for a moment, say which scores to solve by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import solver

from .errors import PrunerError
from .folder import fingerprint
from .formulate import formulate
from .importance.calibrated import Sample
from .plan import Plan

if TYPE_CHECKING:
    from latency_tables import LatencyTable

    from .importance import Importance
    from .network import Network

STEPS = 96  # of tuning, before a structure is measured
FIRST = 6  # structures before anything is fitted
SPREAD = 0.5  # standard deviation of the logarithm of what a score is mistaken by
TOGETHER = 0.7  # the same of all Blocks together, against all Dims
TIME_LIMIT_S = 10.0
_SEED = 15_485_863


def tried(
    net: Network,
    table: LatencyTable,
    importance: Importance,
    batches: Iterable[tuple[Any, Any]],
    budget: str | float,
    trials: int,
    *,
    margin: float = 0.0,
    within: Plan | None = None,
    journal: Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Importance:
    """The scores by which the solver's choice at this budget was found to lose least.

    The solver takes what the objective flatters, and where much is cut, cuts neither add up nor do
    they lose in the end what they lose at first: tuning makes good one thing more than another.
    So that many structures are solved for at this budget, each by other scores, cut, repaired,
    tuned for ``STEPS`` steps towards the dense network's answers, and run on images that they have
    not learnt from. The first scores are those given, and these disturbed at random: each by
    itself, and Blocks against Dims. Then, in turn, factors of the scores are fitted to what all
    structures have lost (see `pruner.importance.calibrated`); such fitted scores are disturbed;
    and those that were best so far are, by half as much.

    importance
        Scores with rises: of the criteria measured, calibrated, refined or reconstruction.
    batches
        Calibration images. Labels are not looked at.
    budget, margin, within
        As `formulate` takes them.
    journal
        A file that what structures lose is written to, one after the other: the same call looks it
        up there and continues.

    Raises PrunerError for scores without rises. Where nothing meets the budget, the scores come
    back as they were.
    """
    if not importance.rises:
        raise PrunerError(
            f"trials: criterion {importance.criterion!r} says nothing of whole widths; choose "
            "measured, calibrated, refined or reconstruction"
        )
    sample = Sample.empty(net, importance, list(batches), STEPS)
    best, least = importance, np.inf
    known = _read(journal)
    plans: set[str] = set()
    for number in range(trials):
        for scores in _guesses(sample, best, number):
            plan = _solved(net, table, scores, budget, margin, within)
            if plan is None:
                return importance
            key = fingerprint(plan.to_json())
            if key not in plans:
                plans.add(key)
                loss = sample.add(plan, known.get(key))
                if journal is not None and key not in known:
                    _append(journal, key, loss)
                if loss < least:
                    best, least = scores, loss
                break
        if progress is not None:
            progress(number + 1, trials)
    return best


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


def _guesses(sample: Sample, best: Importance, number: int) -> Iterator[Importance]:
    """Scores to solve by, until one of them gives a structure that was not tried yet."""
    known, spread = sample.alone, 1.0
    if len(sample.rows) >= FIRST:
        known = sample.weighed(known.criterion)
    if number % 3 == 0:
        yield known
    elif number % 3 == 2 and len(sample.rows) >= FIRST:
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
        rises={name: factor(SPREAD) * rise for name, rise in importance.rises.items()},
        blocks={n: together * factor(SPREAD) * lost for n, lost in importance.blocks.items()},
    )


def _solved(
    net: Network,
    table: LatencyTable,
    importance: Importance,
    budget: str | float,
    margin: float,
    within: Plan | None,
) -> Plan | None:
    problem = formulate(net, table, importance, budget, margin=margin, within=within)
    found = solver.solve(problem, time_limit_s=TIME_LIMIT_S)
    if found.status is solver.Status.INTERRUPTED:
        raise KeyboardInterrupt
    return None if found.choice is None else Plan.from_solution(net, found, importance, within)
