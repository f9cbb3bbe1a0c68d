"""The exact linearization as a Pyomo model: an oracle that shares no code with the package."""

from __future__ import annotations

import itertools

import numpy as np
import pyomo.environ as pyo
from pyomo.contrib.appsi.solvers import Highs

import solver


def build_model(problem: solver.Problem) -> pyo.ConcreteModel:
    """One binary an option, one continuous variable an entry; entries of an option sum to it."""
    m = pyo.ConcreteModel()
    options = [(v, o) for v, n in problem.options.items() for o in range(n)]
    m.x = pyo.Var(options, domain=pyo.Binary)
    m.rules = pyo.ConstraintList()
    for v, n in problem.options.items():
        m.rules.add(sum(m.x[v, o] for o in range(n)) == 1)
    m.y = pyo.Var(pyo.Any, domain=pyo.NonNegativeReals, dense=False)
    value: list = []
    cost: dict[str, list] = {r: [] for r in problem.budgets}
    for t in problem.tables:
        shape = problem.shape(t)
        gain = np.broadcast_to(0.0 if t.value is None else t.value, shape)
        taken = {r: np.broadcast_to(c, shape) for r, c in t.cost.items() if r in cost}
        entries = list(itertools.product(*map(range, shape)))
        admissible = [e for e in entries if gain[e] > -np.inf]
        if not admissible:
            m.rules.add(pyo.Constraint.Infeasible)
            continue
        m.rules.add(sum(m.y[t.name, e] for e in admissible) == 1)
        for axis, v in enumerate(t.scope):
            for o in range(shape[axis]):
                mine = [m.y[t.name, e] for e in admissible if e[axis] == o]
                m.rules.add(sum(mine) == m.x[v, o])
        value += [float(gain[e]) * m.y[t.name, e] for e in admissible]
        for r, c in taken.items():
            cost[r] += [float(c[e]) * m.y[t.name, e] for e in admissible]
    m.value = pyo.Objective(expr=sum(value), sense=pyo.maximize)
    for r, terms in cost.items():
        if terms:
            m.rules.add(sum(terms) <= problem.budgets[r])
    return m


def solve_by_pyomo(problem: solver.Problem) -> float | None:
    """Return the optimum; None where there is none."""
    highs = Highs()
    highs.config.load_solution = False
    highs.config.mip_gap = 0.0
    highs.highs_options = {"mip_abs_gap": 1e-9, "mip_feasibility_tolerance": 1e-9}
    answer = highs.solve(build_model(problem))
    condition = answer.termination_condition.name
    if condition == "optimal":
        return float(answer.best_feasible_objective)
    assert condition in ("infeasible", "infeasibleOrUnbounded"), condition
    return None
