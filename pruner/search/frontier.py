"""The frontier: the best structure at every budget, from one latency table and one importance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import solver
from latency_tables import LatencyTable

from ..errors import PrunerError
from ..problem import LATENCY, Budget, Constraints, formulate, objective_value, predict
from ..structure import (
    Importance,
    Network,
    count_macs,
    count_parameters,
    decode_choice,
)

_MOST_DROPS = 4


@dataclass(frozen=True)
class FrontierPoint:
    """The best structure at one budget.

    Attributes:
        budget: A share of the dense latency.
        budget_ms: The same in milliseconds a batch.
        predicted_ms: What the table expects of the structure.
        value: The importance that the structure keeps.
        bound: The most that any structure within the budget keeps.
        lost: What the dense network is worth more.
        price_per_ms: What a further millisecond is worth here, in the unit of value.
        macs: Multiply-adds of one input.
        parameters: Parameters.
        status: Why the solver stopped.
        sizes: Dim -> how many indices stay.
        dropped: The Blocks that go.
    """

    budget: Budget
    budget_ms: float
    predicted_ms: float
    value: float
    bound: float
    lost: float
    price_per_ms: float
    macs: int
    parameters: int
    status: str
    sizes: Mapping[str, int]
    dropped: tuple[str, ...]

    @property
    def gap(self) -> float:
        """(bound - value) / max(|bound|, |value|): 0 where the structure is proven best."""
        above, size = self.bound - self.value, max(abs(self.bound), abs(self.value))
        return above / size if above > 0 else 0.0


def spread_budgets(
    net: Network,
    table: LatencyTable,
    importance: Importance,
    count: int,
    margin: float = 0.0,
    constraints: Constraints | None = None,
) -> tuple[Budget, ...]:
    """Return budgets at even distances, from the least that can be met to the most that is of use.

    That is the dense latency, or less where constraints keep every structure below it.

    Raises:
        PrunerError: Fewer than two; or no structure meets the constraints.
    """
    if count < 2:
        raise PrunerError(f"points: expected at least 2, got {count}")
    dense_ms = table.uncut_ms(net)
    asked = formulate(net, table, importance, dense_ms * 1e-9, constraints=constraints)
    lacking = solver.solve(asked).infeasibility
    if lacking is None or lacking.choice is None or lacking.resource != LATENCY:
        raise PrunerError(f"no structure meets all constraints: {lacking}")
    least_ms = predict(net, table, *decode_choice(net, lacking.choice))
    most_ms = dense_ms
    if constraints is not None and constraints.limits:
        free = solver.solve(formulate(net, table, importance, dense_ms, constraints=constraints))
        if free.choice is not None:
            most_ms = min(predict(net, table, *decode_choice(net, free.choice)), dense_ms)
    # In hundredths of a percent, so that each can be written down and asked for again.
    least, most = (
        min(math.ceil(1e4 * ms / dense_ms / (1 - margin) + 1e-6), 10_000)
        for ms in (least_ms, most_ms)
    )
    steps = (least + i * (most - least) / (count - 1) for i in range(count))
    return tuple(Budget(step / 100, "%") for step in dict.fromkeys(map(round, steps)))


def trace_frontier(
    net: Network,
    table: LatencyTable,
    importance: Importance,
    budgets: Iterable[Budget],
    *,
    margin: float = 0.0,
    constraints: Constraints | None = None,
    time_limit_s: float = 60.0,
    known: Mapping[str, FrontierPoint] | None = None,
    progress: Callable[[solver.SolveProgress], None] | None = None,
) -> Iterator[FrontierPoint]:
    """Yield the best structure at every budget, from the smallest budget up.

    Args:
        net: The network.
        table: Latencies of its cells.
        importance: What indices and Blocks are worth.
        budgets: Shares of the dense latency.
        margin: The share of every budget that is left unused.
        constraints: What else every structure must meet.
        time_limit_s: For each budget; the gap is what is not proven then.
        known: Points by the text of their budget that need not be solved again.
        progress: Called now and then during a solve.

    Raises:
        PrunerError: A budget that no structure meets.
        KeyboardInterrupt: The solver was interrupted; what was yielded stands.
    """
    dense, best = objective_value(net, importance), None
    for budget in sorted(budgets, key=lambda one: one.amount):
        point = (known or {}).get(str(budget))
        if point is None:
            problem = formulate(
                net, table, importance, budget, margin=margin, constraints=constraints
            )
            solution = solver.solve(problem, time_limit_s=time_limit_s, progress=progress)
            if solution.status is solver.Status.INTERRUPTED:
                raise KeyboardInterrupt
            point = _describe_solution(net, table, budget, solution, dense)
        # What keeps a smaller budget keeps a larger one.
        if best is not None and best.value > point.value:
            point = replace(
                best,
                budget=budget,
                budget_ms=point.budget_ms,
                bound=max(point.bound, best.value),
                price_per_ms=point.price_per_ms,
                status=point.status,
            )
        best = point
        yield point


def _describe_solution(
    net: Network, table: LatencyTable, budget: Budget, solution: solver.Solution, dense: float
) -> FrontierPoint:
    """Return a point with all its figures."""
    if solution.choice is None:
        raise PrunerError(f"budget {budget}: {solution.infeasibility or solution.status}")
    sizes, dropped = decode_choice(net, solution.choice)
    return FrontierPoint(
        budget=budget,
        budget_ms=budget.limit_ms(table.uncut_ms(net), 1),
        predicted_ms=predict(net, table, sizes, dropped),
        value=solution.value,
        bound=solution.bound,
        lost=dense - solution.value,
        price_per_ms=solution.prices.get(LATENCY, 0.0),
        macs=count_macs(net, sizes, dropped),
        parameters=count_parameters(net, sizes, dropped),
        status=str(solution.status),
        sizes=sizes,
        dropped=dropped,
    )


def find_knee(points: Sequence[FrontierPoint]) -> int:
    """Return the place of the point farthest above the chord from the first point to the last.

    From there on down a millisecond costs more than it does on average (Satopaa et al. 2011,
    "Finding a kneedle in a haystack").
    """
    first, last = points[0], points[-1]
    span_ms = (last.budget_ms - first.budget_ms) or 1.0
    span = (last.value - first.value) or 1.0

    def rise(point: FrontierPoint) -> float:
        return (point.value - first.value) / span - (point.budget_ms - first.budget_ms) / span_ms

    return max(range(len(points)), key=lambda i: rise(points[i]))


def list_drops(net: Network, above: FrontierPoint, point: FrontierPoint) -> list[str]:
    """Return what goes from the next larger budget to a point's: Blocks, then the most of Dims."""
    blocks = [f"block {name}" for name in point.dropped if name not in above.dropped]
    gone = set(point.dropped)
    inside = {
        name: {block for slot in dim.slots for block in slot.blocks}
        for name, dim in net.dims.items()
    }
    shares = {
        name: 1 - point.sizes[name] / above.sizes[name]
        for name in net.dims
        if point.sizes[name] < above.sizes[name] and not (inside[name] and inside[name] <= gone)
    }
    narrowed = sorted(shares, key=lambda name: -shares[name])[:_MOST_DROPS]
    return blocks + [f"{name} {above.sizes[name]} to {point.sizes[name]}" for name in narrowed]
