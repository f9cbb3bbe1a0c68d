"""What a solution's choice trades: the price of each budget, and every variable's neighbours."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from .errors import ProblemError
from .problem import Problem, lookup
from .table import Table


class _PricedChoice(Protocol):
    """What an explanation needs of a :class:`~solver.Solution`."""

    @property
    def status(self) -> object: ...
    @property
    def choice(self) -> Mapping[str, int] | None: ...
    @property
    def cost(self) -> Mapping[str, float]: ...
    @property
    def budgets(self) -> Mapping[str, float]: ...
    @property
    def prices(self) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class Move:
    """One variable changed to another option, all others as chosen.

    ``value`` and ``cost`` are the changes (new minus chosen). ``net`` is the change of value less
    the change of cost at the budgets' prices: near zero or above means a close decision.
    ``affordable`` tells whether the budgets allow the move as it is.
    """

    option: int
    value: float
    cost: Mapping[str, float]
    net: float
    affordable: bool


@dataclass(frozen=True)
class VariableReport:
    """A variable's chosen option and its next admissible options; None where there is none."""

    variable: str
    option: int
    options: int
    down: Move | None
    up: Move | None


@dataclass(frozen=True)
class Explanation:
    """Prices [value per unit of resource], unused budget, and a report for every variable."""

    prices: Mapping[str, float]
    unused: Mapping[str, float]
    variables: tuple[VariableReport, ...]

    def __str__(self) -> str:
        lines = [
            f"{resource}: one unit more is worth {price:.6g} at the margin, "
            f"{self.unused[resource]:.6g} unused"
            for resource, price in self.prices.items()
        ]
        width = max((len(v.variable) for v in self.variables), default=0)
        for v in self.variables:
            if v.options == 1:
                continue
            lines.append(
                f"{v.variable:<{width}}  {v.option:>4} of {v.options:<4} "
                f"down: {_format_move(v.down)}   up: {_format_move(v.up)}"
            )
        return "\n".join(lines)


def explain(problem: Problem, solution: _PricedChoice) -> Explanation:
    """Say what the budgets are worth and what each variable's next option would change.

    The price of a budget is its multiplier in the Lagrangian relaxation: value per unit of the
    resource at the margin, by which the optimal value changes for small changes of the budget on
    the concave envelope. Zero means that the budget does not bind. Methods without a relaxation
    (milp, brute_force) leave prices empty; moves then have a ``net`` of their value alone.

    Raises:
        ProblemError: The solution holds no choice, or belongs to another problem.
    """
    if solution.choice is None:
        raise ProblemError(f"nothing to explain: the solution holds no choice ({solution.status})")
    choice = dict(solution.choice)
    problem.evaluate(choice)
    tables: dict[str, list[Table]] = {v: [] for v in problem.options}
    for table in problem.tables:
        for v in table.scope:
            tables[v].append(table)
    reports = []
    for variable, count in problem.options.items():
        moves = {}
        for direction in (-1, 1):
            option = choice[variable] + direction
            move = None
            while move is None and 0 <= option < count:
                move = _evaluate_move(problem, solution, tables[variable], choice, variable, option)
                option += direction
            moves[direction] = move
        reports.append(VariableReport(variable, choice[variable], count, moves[-1], moves[1]))
    return Explanation(
        prices=dict(solution.prices),
        unused={r: b - solution.cost[r] for r, b in solution.budgets.items()},
        variables=tuple(reports),
    )


def _evaluate_move(
    problem: Problem,
    solution: _PricedChoice,
    tables: list[Table],
    choice: dict[str, int],
    variable: str,
    option: int,
) -> Move | None:
    """Return the change of setting ``variable`` to ``option``; None where it is inadmissible."""
    values = []
    costs: dict[str, list[float]] = {r: [] for r in problem.resources}
    for table in tables:
        old = tuple(choice[v] for v in table.scope)
        new = tuple(option if v == variable else choice[v] for v in table.scope)
        if table.value is not None:
            after = lookup(table.value, new)
            if after == -math.inf:
                return None
            values += [after, -lookup(table.value, old)]
        for resource, array in table.cost.items():
            costs[resource] += [lookup(array, new), -lookup(array, old)]
    value = math.fsum(values)
    cost = {r: math.fsum(c) for r, c in costs.items()}
    net = value - math.fsum(price * cost[r] for r, price in solution.prices.items())
    affordable = all(
        solution.cost[r] + cost[r] <= b * (1 + 1e-9) for r, b in solution.budgets.items()
    )
    return Move(option, value, cost, net, affordable)


def _format_move(move: Move | None) -> str:
    if move is None:
        return "-"
    costs = ", ".join(f"{c:+.4g} {r}" for r, c in move.cost.items())
    return f"{move.value:+.4g} for {costs or 'nothing'}"
