"""The structure for a budget: solved on the table, measured on the device, solved again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import latency_tables
import solver
from latency_tables import Engine, LatencyTable

from ..errors import PrunerError
from ..problem import LATENCY, Constraints, formulate, predict
from ..structure import Importance, Network, Plan, decode_choice
from ..utils import ProgressDisplay
from .candidates import Candidate
from .options import SolveConfig
from .solve_progress import describe_progress

# A structure within the budget is taken when it measures this close to it: what another solve could
# hardly gain.
_BELOW = 0.03
# By how much less is asked, at least, where the table stands by a structure that was too slow.
_STEP = 0.005


@dataclass(frozen=True)
class Round:
    """One structure: its proof, what was asked, what the table says of it and what the device."""

    plan: Plan
    solution: solver.Solution
    asked_ms: float
    predicted_ms: float
    measured_ms: float | None = None


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
    candidates: Sequence[Candidate] = (),
    constraints: Constraints | None = None,
    beyond: Plan | None = None,
) -> Choice:
    """Choose the most important structure that measures within a budget of milliseconds a batch.

    Solve, measure the answer, correct the table by it, and solve again until it fits. Of
    candidates, the best first, the first that measures within the budget is taken. ``keep`` is
    called with every corrected table; ``within`` is the plan of an earlier round, whose rest may be
    cut, and constraints what else the structure must meet (see `formulate`). ``beyond`` is a plan
    that it is to grow from; where nothing that keeps all of it meets the budget, it need not.

    Returns:
        The choice; where none fits in ``config.attempts`` rounds the closest, with a warning.

    Raises:
        PrunerError: The budget is below the reachable minimum.
    """
    runner = _RoundRunner(
        net, table, importance, engine, budget_ms, config, progress, keep, within, constraints,
        beyond,
    )  # fmt: skip
    rounds = (runner.predict_round(c.plan, c.solution, budget_ms) for c in candidates)
    if not config.check:
        found = next(rounds, None) or runner.solve(budget_ms)
        return Choice(found, (found,), table)
    for found in rounds:
        measured = runner.measure(found, len(runner.rounds) + 1)
        if _measured_ms(measured) <= budget_ms:
            return Choice(measured, tuple(runner.rounds), runner.table)
    runner.run_rounds()
    return runner.choose_round()


class NothingFound(PrunerError):
    """No structure meets what was asked, or none was found in time."""


@dataclass
class _RoundRunner:
    """The rounds of one call of `choose`; measuring one adds it and corrects the table."""

    net: Network
    table: LatencyTable
    importance: Importance
    engine: Engine
    budget_ms: float
    config: SolveConfig
    progress: ProgressDisplay
    keep: Callable[[LatencyTable], None]
    within: Plan | None
    constraints: Constraints | None
    beyond: Plan | None = None
    rounds: list[Round] = field(default_factory=list)

    def run_rounds(self) -> None:
        """Solve and measure until a structure is close below the budget, or attempts are over."""
        asked_ms, budget_ms = self.budget_ms, self.budget_ms
        first = len(self.rounds) + 1
        for number in range(first, first + self.config.attempts):
            try:
                found = self.solve(asked_ms)
            except NothingFound:
                if not self.rounds:
                    raise
                return  # the corrected table leaves no room below; what was measured stands
            known = next((r for r in self.rounds if _same_structure(r.plan, found.plan)), None)
            if known is not None:
                # The table stands by a structure that was measured: only asking for less moves it.
                if _measured_ms(known) <= budget_ms:
                    return
                asked_ms *= min(budget_ms / _measured_ms(known), 1 - _STEP)
                continue
            measured_ms = _measured_ms(self.measure(found, number))
            low_ms = budget_ms * (1 - _BELOW - resolve_margin(self.config, self.table))
            if low_ms <= measured_ms <= budget_ms:
                return
            if number > 1:
                # Correcting the table alone did not do: the solver keeps finding what it flatters.
                # Ask for as much less as it measured too much; the way back up is in half steps.
                asked_ms *= (budget_ms / measured_ms) ** (1.0 if measured_ms > budget_ms else 0.5)
                asked_ms = min(asked_ms, budget_ms)

    def choose_round(self) -> Choice:
        """Choose the most important structure within the budget, or else the fastest and warn."""
        best, warning = min(self.rounds, key=_measured_ms), ""
        if fitting := [r for r in self.rounds if _measured_ms(r) <= self.budget_ms]:
            best = max(fitting, key=lambda r: r.solution.value)
        else:
            warning = (
                f"the structure measures {_measured_ms(best) / self.budget_ms - 1:.1%} above the "
                f"budget after {len(self.rounds)} rounds; a larger --margin leaves room"
            )
        return Choice(best, tuple(self.rounds), self.table, warning)

    def measure(self, found: Round, number: int) -> Round:
        """Add a round with what the device says of it, and correct the table by that."""
        self.progress.say(f"  round {number}: measuring the solved structure")
        sizes, dropped = found.plan.sizes(), found.plan.dropped_blocks()
        checked = latency_tables.check(self.table, self.net, self.engine, sizes, dropped)
        self.progress.say(
            f"  round {number}: predicted {checked.predicted_ms:.4g} ms, measured "
            f"{checked.measured_ms:.4g} ms ({checked.error:+.1%}), budget {self.budget_ms:.4g} ms"
        )
        measured = replace(
            found, predicted_ms=checked.predicted_ms, measured_ms=checked.measured_ms
        )
        self.table = checked.table
        self.keep(self.table)
        self.rounds.append(measured)
        return measured

    def solve(self, asked_ms: float) -> Round:
        """Return a round that is not measured yet; raises PrunerError where there is none."""
        if self.beyond is not None:
            try:
                return self.solve_beyond(asked_ms, self.beyond)
            except NothingFound:
                self.progress.say("  nothing within the budget keeps all that is active")
        return self.solve_beyond(asked_ms, None)

    def solve_beyond(self, asked_ms: float, beyond: Plan | None) -> Round:
        """Return a round that keeps all that a plan does; raises PrunerError as `solve`."""
        margin = resolve_margin(self.config, self.table)
        problem = formulate(
            self.net, self.table, self.importance, asked_ms,
            margin=margin, within=self.within, beyond=beyond, constraints=self.constraints,
        )  # fmt: skip
        limit_s = self.config.time_limit_s
        with self.progress.task("solve") as advance:
            solution = solver.solve(
                problem,
                time_limit_s=limit_s,
                progress=lambda p: advance(round(p.seconds, 1), limit_s, describe_progress(p)),
            )
        if solution.status is solver.Status.INTERRUPTED:
            raise KeyboardInterrupt
        if solution.choice is not None:
            plan = Plan.from_solution(self.net, solution, self.importance, self.within, beyond)
            return self.predict_round(plan, solution, asked_ms)
        if solution.infeasibility is None:
            raise NothingFound(f"no structure was found in {limit_s:g} s: raise --time-limit")
        lacking = solution.infeasibility
        if lacking.resource != LATENCY:
            told = str(lacking)
            if lacking.resource is not None:
                least, most = lacking.smallest_cost, lacking.budget
                told = f"{lacking.resource} is {least:.6g} at least, and {most:.6g} is the most"
            raise NothingFound(f"no structure meets all budgets and constraints: {told}")
        smallest = describe_smallest(self.net, self.table, lacking)
        raise NothingFound(f"budget {asked_ms:.4g} ms is below the reachable minimum: {smallest}")

    def predict_round(self, plan: Plan, solution: solver.Solution, asked_ms: float) -> Round:
        """Return a round with what the table says of it."""
        predicted_ms = predict(self.net, self.table, plan.sizes(), plan.dropped_blocks())
        return Round(plan, solution, asked_ms, predicted_ms)


def describe_smallest(
    net: Network, table: LatencyTable, infeasibility: solver.Infeasibility
) -> str:
    """Say the smallest structure's latency and what takes most of it.

    Not at the solver's costs, which are those in a network as small as the budget.
    """
    if infeasibility.choice is None:
        return str(infeasibility)
    total_ms = predict(net, table, *decode_choice(net, infeasibility.choice))
    scale = total_ms / infeasibility.smallest_cost
    parts = sorted(infeasibility.parts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {scale * cost:.3g}" for name, cost in parts[:4] if cost > 0)
    return f"{total_ms:.4g} ms, made up of {shown} ms and smaller parts"


def resolve_margin(config: SolveConfig, table: LatencyTable) -> float:
    """Return the share of the budget to keep free; ``auto``: the table's 95th percentile error."""
    if isinstance(config.margin, float):
        return config.margin
    return min(table.error.p95, 0.2) if table.error is not None else 0.05


def _measured_ms(measured: Round) -> float:
    assert measured.measured_ms is not None
    return measured.measured_ms


def _same_structure(one: Plan, other: Plan) -> bool:
    return one.sizes() == other.sizes() and set(one.dropped_blocks()) == set(other.dropped_blocks())
