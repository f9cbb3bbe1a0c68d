"""What a solve hands back: why it stopped, and what it holds."""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from .explain import Explanation, explain
from .problem import Problem


class Status(str, enum.Enum):
    """Why the solver stopped, whatever the solution holds."""

    OPTIMAL = "optimal"
    WITHIN_GAP = "within gap"
    INFEASIBLE = "infeasible"
    TIME_LIMIT = "time limit"
    INTERRUPTED = "interrupted"
    UNPROVEN = "unproven"

    def __str__(self) -> str:
        return self.value

    @property
    def advice(self) -> str:
        """What the status means and what can be done, in a sentence."""
        return _ADVICE[self]


_ADVICE = {
    Status.OPTIMAL: "No choice within the budgets is better.",
    Status.WITHIN_GAP: "The choice is proven to lie within the requested gap of the best.",
    Status.INFEASIBLE: "No choice keeps the budgets; `infeasibility` says what can be reached.",
    Status.TIME_LIMIT: "Time ran out: the choice is the best seen; give more time or a gap.",
    Status.INTERRUPTED: "Interrupted: the choice is the best seen so far.",
    Status.UNPROVEN: "The method proves no optimality; method='auto' does.",
}


@dataclass(frozen=True)
class Infeasibility:
    """Why no choice keeps the budgets.

    ``resource`` is the one that cannot be met (None where no choice is admissible at all, or where
    each budget can be met alone but not all together), ``smallest_cost`` the least that any
    admissible choice costs of it, ``budget`` its limit, ``choice`` a choice that reaches it and
    ``parts`` what each table costs there, largest first. ``smallest_costs`` has the least cost
    of every budgeted resource taken alone.
    """

    resource: str | None
    smallest_cost: float
    budget: float
    choice: Mapping[str, int] | None
    parts: Mapping[str, float]
    smallest_costs: Mapping[str, float]

    def __str__(self) -> str:
        if self.resource is None:
            if not self.smallest_costs:
                return "no choice is admissible at all, whatever the budgets"
            alone = ", ".join(f"{r}: {c:.10g}" for r, c in self.smallest_costs.items())
            return (
                "no choice keeps all budgets together, though each can be kept alone "
                f"(smallest reachable: {alone})"
            )
        top = ", ".join(f"{name}: {cost:.6g}" for name, cost in list(self.parts.items())[:5])
        more = f" and {len(self.parts) - 5} more" if len(self.parts) > 5 else ""
        return (
            f"the smallest reachable {self.resource} is {self.smallest_cost:.10g}, the budget is "
            f"{self.budget:.10g}; it is made up of {top}{more}"
        )


@dataclass(frozen=True)
class Solution:
    """The best choice found, what is proven about it, and why the solver stopped.

    Attributes:
        status: Why it stopped.
        choice: Variable to option, all variables; None where nothing feasible was found.
        value: The choice's value in the problem's unit; ``-inf`` without a choice.
        cost: What the choice costs of every resource, budgeted or not.
        bound: No choice within the budgets has a larger value; ``inf`` where nothing is proven.
        seconds: Wall time, model building included.
        method: The method that ran.
        budgets: The budgets that held.
        prices: Value per unit of each budgeted resource at the margin (the multipliers).
        notes: What the user should know: fallbacks, sizes, what the phases did.
        infeasibility: Set where ``status`` is infeasible.
    """

    status: Status
    choice: dict[str, int] | None
    value: float
    cost: dict[str, float]
    bound: float
    seconds: float
    method: str
    budgets: dict[str, float] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    infeasibility: Infeasibility | None = None

    @property
    def gap(self) -> float:
        """(bound - value) / max(|bound|, |value|), zero where they are equal, inf if unproven."""
        return compute_gap(self.value, self.bound)

    @property
    def proven(self) -> bool:
        """Whether the choice is proven optimal, or within the gap that was asked for."""
        return self.status in (Status.OPTIMAL, Status.WITHIN_GAP)

    def explain(self, problem: Problem) -> Explanation:
        """Say what the budgets are worth and what each next option would change."""
        return explain(problem, self)

    def __str__(self) -> str:
        lines = [f"{self.status.value}: {self.status.advice}"]
        if self.choice is not None:
            lines.append(f"value  {self.value:.10g}")
            lines.append(f"bound  {self.bound:.10g}  (gap {self.gap:.3g})")
            for resource, cost in self.cost.items():
                limit = self.budgets.get(resource)
                of = f" of {limit:.10g}" if limit is not None else " (no budget)"
                lines.append(f"cost   {resource}: {cost:.10g}{of}")
        elif math.isfinite(self.bound):
            lines.append(f"bound  {self.bound:.10g}")
        if self.infeasibility is not None:
            lines.append(str(self.infeasibility))
        lines.append(f"{self.method}, {self.seconds:.3f} s")
        lines.extend(f"note: {note}" for note in self.notes)
        return "\n".join(lines)


def compute_gap(value: float, bound: float) -> float:
    """Return the gap between a value and its upper bound, relative to the larger in magnitude."""
    if bound <= value:
        return 0.0
    if not (math.isfinite(value) and math.isfinite(bound)):
        return math.inf
    return (bound - value) / max(abs(bound), abs(value))
