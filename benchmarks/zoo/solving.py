"""From a traced network to solved plans, with a latency table by formula."""

from typing import Any

import numpy as np

from .subject import MOST_DIFFERENCE, Failure, Subject

SHARES = (0.6, 0.3)
"""Budgets, as shares of the dense latency."""
TIME_LIMIT_S = 30.0
"""Seconds for a solve; what has a gap then is an answer."""


class FormulaTable:
    """Latencies by formula: a staircase of two channels, other slopes for other operators."""

    overhead_ms, error = 0.25, None

    def predict(self, spec: Any, sizes: Any, network_ms: float | None = None) -> Any:
        """Return milliseconds [rows]; what an engine fuses is a quarter of it."""
        slope = 0.01 * (1 + sum(map(ord, spec.operator)) % 7) * (1 if spec == spec.plain else 0.25)
        return 0.1 + slope * np.prod(np.ceil(np.asarray(sizes, dtype=float) / 2), axis=1)

    def predict_total(self, cells: Any, network: str = "") -> float:
        """Return the milliseconds of a network of these (specification, sizes)."""
        return self.overhead_ms + sum(float(self.predict(s, [z])[0]) for s, z in cells)

    def calibration(self, net: Any) -> Any:
        """Return the calibration that changes nothing."""
        from latency_tables import Calibration

        return Calibration()

    def uncut_ms(self, net: Any) -> float:
        """Return the dense network's milliseconds."""
        from pruner import predict

        table: Any = self
        return predict(net, table)


def solve_budgets(subject: Subject) -> dict[str, Any]:
    """Formulate, solve and verify at every share; raise Failure where a plan is wrong.

    Infeasible is an answer: then the smallest plan must be over the budget too.
    """
    from pruner import Plan, apply, formulate, predict, score
    from pruner.surgery import compare_masked
    from solver import solve

    net, line = subject.net, dict[str, Any]()
    table: Any = FormulaTable()
    scores, dense_ms = score(net, (), None, "magnitude"), table.uncut_ms(net)
    for share in SHARES:
        name = f"solve{share:.0%}".rstrip("%")
        problem = formulate(net, table, scores, budget=f"{share:.0%}")
        answer = solve(problem, time_limit_s=TIME_LIMIT_S)
        line[name] = str(answer.status)
        if answer.choice is None:
            _require_infeasible(net, table, share * dense_ms, answer)
            continue
        plan = Plan.from_solution(net, answer, scores)
        ms = predict(net, table, plan.sizes(), plan.dropped_blocks())
        if ms > share * dense_ms * (1 + 1e-6):
            raise Failure(f"{name}: {ms:.3f} ms, over {share * dense_ms:.3f}")
        # The column `difference` has held the dense graph against the model already.
        difference = compare_masked(apply(net, plan), net, plan, net.inputs)
        line[f"verify{name[5:]}"] = difference
        if not difference <= MOST_DIFFERENCE:
            raise Failure(f"{name}: verify differs by {difference:.1e}")
    return line


def _require_infeasible(net: Any, table: Any, budget_ms: float, answer: Any) -> None:
    """Raise Failure where some plan within the budget is at hand after all."""
    from pruner import predict

    if "infeasible" not in str(answer.status):
        raise Failure(f"no choice: {answer.status}")
    least = {name: dim.options()[0] for name, dim in net.dims.items()}
    for dropped in ((), tuple(net.blocks)):
        ms = predict(net, table, least, dropped)
        if ms <= budget_ms * (1 - 1e-6):
            raise Failure(f"infeasible, though a plan takes {ms:.3f} of {budget_ms:.3f} ms")
