"""Discrete optimization under budgets: a problem in, a choice and its proof out.

Variables pick one of their options, tables over a few variables say what joint choices bring and
cost, budgets limit the costs. The whole surface::

    problem = solver.Problem(name, options, tables, budgets)   # or Problem.from_json(path)
    solution = solver.solve(problem)                           # choice, value, bound, status
    solver.explain(problem, solution)                          # prices, what-if of every variable
    solver.frontier(problem, budgets)                          # one solution a budget

Value and costs have the user's units throughout; arrays are indexed by option, in scope order.
"""

from .envelope import Envelope, envelope
from .errors import BudgetError, MethodError, MissingSolverError, ProblemError, SolverError
from .explain import Explanation, Move, VariableReport, explain
from .frontier import Frontier, frontier
from .problem import Problem
from .search import Progress, SolveProgress
from .solution import Infeasibility, Solution, Status
from .solve import METHODS, solve
from .table import Table

__all__ = [
    "METHODS", "BudgetError", "Envelope", "Explanation", "Frontier", "Infeasibility", "MethodError",
    "MissingSolverError", "Move", "Problem", "ProblemError", "Progress", "Solution",
    "SolveProgress", "SolverError", "Status", "Table", "VariableReport", "envelope", "explain",
    "frontier", "solve",
]  # fmt: skip
