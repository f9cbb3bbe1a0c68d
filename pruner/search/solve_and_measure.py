"""choose: the structure for a budget, solved on the table and verified on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import latency_tables
import solver
from latency_tables import Engine, LatencyTable

from ..errors import PrunerError
from ..problem import formulate, predict
from ..structure import Plan, decode_choice
from ..utils import ProgressDisplay
from .options import SolveConfig

if TYPE_CHECKING:
    from ..structure import Importance, Network
    from .candidates import Candidate

# A structure within the budget is taken when it measures this close to it: what another solve could
# hardly gain.
_BELOW = 0.03
# By how much less is asked, at least, where the table stands by a structure that was too slow.
_STEP = 0.005
# Solver status that a user's Ctrl-C leaves behind.
_INTERRUPTED = solver.Status.INTERRUPTED


@dataclass(frozen=True)
class Round:
    """One structure: what the table said of it, what the device said, and its proof."""

    plan: Plan
    solution: solver.Solution
    asked_ms: float
    predicted_ms: float
    measured_ms: float | None = None
    spread_ms: float | None = None


@dataclass(frozen=True)
class Choice:
    """The chosen round, all rounds in order, and the table with what was measured on the way."""

    best: Round
    rounds: tuple[Round, ...]
    table: LatencyTable
    warning: str = ""


def choose(
    net: Network,
    table: LatencyTable,
    importance: Importance,
    engine: Engine,
    budget_ms: float,
    config: SolveConfig,
    progress: ProgressDisplay,
    keep: Callable[[LatencyTable], None],
    within: Plan | None = None,
    trials: Sequence[Candidate] = (),
) -> Choice:
    """Solve, measure the answer, correct the table by it, and solve again until it fits.

    Of the structures that measure within the budget, the most important one is taken. keep is
    called with every corrected table; within is the plan of an earlier round, whose rest may be
    cut. Where none fits in ``config.attempts`` rounds the closest is taken, with a warning.
    Of trials, the best first, the first that measures within the budget is taken.

    Raises PrunerError where the budget is below the reachable minimum.
    """
    rounds: list[Round] = []
    for trial in trials:
        spent_ms = predict(net, table, trial.plan.sizes(), trial.plan.dropped_blocks())
        best = Round(trial.plan, trial.solution, budget_ms, spent_ms)
        if not config.check:
            return Choice(best, (best,), table)
        checked, table = _check(net, table, engine, best, budget_ms, len(rounds) + 1, progress)
        keep(table)
        rounds.append(checked)
        if _measured(checked) <= budget_ms:
            return Choice(checked, tuple(rounds), table)
    asked_ms = budget_ms
    for number in range(len(rounds) + 1, len(rounds) + config.attempts + 1):
        found = _solve(net, table, importance, asked_ms, config, progress, within)
        if isinstance(found, str):
            if rounds:  # the corrected table leaves no room below; what was measured stands
                break
            raise PrunerError(found)
        if not config.check:
            return Choice(found, (found,), table)
        known = next((r for r in rounds if _same(r.plan, found.plan)), None)
        if known is not None and known.measured_ms is not None:
            # The table stands by a structure that was measured: only asking for less can move it.
            if known.measured_ms <= budget_ms:
                break
            asked_ms *= min(budget_ms / known.measured_ms, 1 - _STEP)
            continue
        checked, table = _check(net, table, engine, found, budget_ms, number, progress)
        keep(table)
        rounds.append(checked)
        measured = _measured(checked)
        low = budget_ms * (1 - _BELOW - free_share(config, table))
        if low <= measured <= budget_ms:
            break
        if number > 1:
            # Correcting the table alone did not do: the solver keeps finding what it flatters. Ask
            # for as much less as it measured too much; the way back up is taken in half steps.
            asked_ms *= (budget_ms / measured) ** (1.0 if measured > budget_ms else 0.5)
            asked_ms = min(asked_ms, budget_ms)
    fitting = [r for r in rounds if _measured(r) <= budget_ms]
    if fitting:
        return Choice(max(fitting, key=lambda r: r.solution.value), tuple(rounds), table)
    best = min(rounds, key=_measured)
    over = _measured(best) / budget_ms - 1
    return Choice(
        best,
        tuple(rounds),
        table,
        f"the structure measures {over:.1%} above the budget after {len(rounds)} rounds; "
        "a larger --margin leaves room",
    )


def _check(
    net: Network,
    table: LatencyTable,
    engine: Engine,
    found: Round,
    budget_ms: float,
    number: int,
    progress: ProgressDisplay,
) -> tuple[Round, LatencyTable]:
    """A round with what the device says of it, and the table corrected by that."""
    progress.say(f"  round {number}: measuring the solved structure")
    sizes, dropped = found.plan.sizes(), found.plan.dropped_blocks()
    checked = latency_tables.check(table, net, engine, sizes, dropped)
    progress.say(
        f"  round {number}: predicted {checked.predicted_ms:.4g} ms, measured "
        f"{checked.measured_ms:.4g} ms ({checked.error:+.1%}), budget {budget_ms:.4g} ms"
    )
    timed = replace(
        found,
        predicted_ms=checked.predicted_ms,
        measured_ms=checked.measured_ms,
        spread_ms=checked.spread_ms,
    )
    return timed, checked.table


def _solve(
    net: Network,
    table: LatencyTable,
    importance: Importance,
    budget_ms: float,
    config: SolveConfig,
    progress: ProgressDisplay,
    within: Plan | None,
) -> Round | str:
    """A round that is not measured yet, or why there is none."""
    free = free_share(config, table)
    problem = formulate(net, table, importance, budget_ms, margin=free, within=within)
    with progress.task("solve") as advance:
        solution = solver.solve(
            problem,
            time_limit_s=config.time_limit_s,
            progress=lambda p: advance(round(p.seconds, 1), config.time_limit_s, p.stage),
        )
    if solution.status is _INTERRUPTED:
        raise KeyboardInterrupt
    if solution.choice is None:
        if solution.infeasibility is not None:
            return f"budget {budget_ms:.4g} ms is below the reachable minimum: " + reachable(
                net, table, solution.infeasibility
            )
        return f"no structure was found in {config.time_limit_s:g} s: raise --time-limit"
    plan = Plan.from_solution(net, solution, importance, within)
    return Round(
        plan, solution, budget_ms, predict(net, table, plan.sizes(), plan.dropped_blocks())
    )


def reachable(net: Network, table: LatencyTable, infeasibility: solver.Infeasibility) -> str:
    """The smallest structure's latency and what takes most of it.

    Not at the solver's costs, which are those in a network as small as the budget.
    """
    if infeasibility.choice is None:
        return str(infeasibility)
    total_ms = predict(net, table, *decode_choice(net, infeasibility.choice))
    scale = total_ms / infeasibility.smallest_cost
    parts = sorted(infeasibility.parts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {scale * cost:.3g}" for name, cost in parts[:4] if cost > 0)
    return f"{total_ms:.4g} ms, made up of {shown} ms and smaller parts"


def free_share(config: SolveConfig, table: LatencyTable) -> float:
    """The share of the budget to keep free.

    ``auto``: what the table was off by, at worst but for one in twenty.
    """
    if isinstance(config.margin, float):
        return config.margin
    return min(table.error.p95, 0.2) if table.error is not None else 0.05


def _measured(entry: Round) -> float:
    assert entry.measured_ms is not None
    return entry.measured_ms


def _same(one: Plan, other: Plan) -> bool:
    return one.sizes() == other.sizes() and set(one.dropped_blocks()) == set(other.dropped_blocks())
