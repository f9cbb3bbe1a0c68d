"""The published way: a nonconvex MINLP for Pyomo's MindtPy, outer approximation, feasibility pump.

*Multi-dimensional pruning* (MDP, arXiv:2406.12079 and arXiv:2504.02168) writes value and latency as
sums of products of one-hot vectors with the tables, ``z_b * (y_in^T C y_out)``, and hands that to
MindtPy. The relaxation's products are not concave, so the linearizations may cut off the optimum:
the result carries no bound, and a feasible choice is the most that it promises.
"""

import logging
import math
from typing import Any

import numpy as np

from ..errors import MissingSolverError
from ..model import Model
from ..search import OutOfTime, Search
from .ipopt import provide_ipopt
from .silence import silence_logger

INSTALL = (
    "method 'mindtpy' needs Pyomo's MindtPy with a nonlinear solver: there is no 'ipopt' "
    "executable on the path and no casadi. `pip install casadi` brings Ipopt along (or "
    "conda install -c conda-forge ipopt); otherwise use method='auto'"
)


def solve_mindtpy(search: Search) -> None:
    """Run outer approximation with a feasibility pump on the products of one-hot vectors.

    Raises:
        MissingSolverError: Pyomo, HiGHS or Ipopt is missing.
    """
    try:
        import pyomo.environ as pyo
    except ImportError as error:
        raise MissingSolverError(f"{INSTALL} ({error})") from None
    if not pyo.SolverFactory("appsi_highs").available(exception_flag=False):
        raise MissingSolverError("method 'mindtpy' needs HiGHS; pip install highspy")
    model = search.model
    if model.constant_value == -math.inf or not model.sizes:
        search.offer(model, [])
        return
    program = formulate(model)
    search.check()
    with provide_ipopt() as there:
        if not there:
            raise MissingSolverError(INSTALL)
        try:
            with silence_logger("pyomo", logging.CRITICAL):
                pyo.SolverFactory("mindtpy").solve(
                    program,
                    strategy="OA",
                    init_strategy="FP",
                    mip_solver="appsi_highs",
                    nlp_solver="ipopt",
                    time_limit=max(int(search.remaining), 1),
                    add_no_good_cuts=True,
                    integer_to_binary=False,
                )
        except (ValueError, RuntimeError, ArithmeticError) as error:
            search.notes.append(f"MindtPy stopped: {type(error).__name__}: {error}")
    values = [[v.value for v in block.values()] for block in program.pick.values()]
    if any(x is None for block in values for x in block):
        search.notes.append("MindtPy left no choice")
    else:
        choice = [int(np.argmax(block)) for block in values]
        if not search.offer(model, choice):
            _, cost = model.evaluate(choice)
            over = (cost - model.budgets) * model.units.cost_unit
            search.notes.append(
                "MindtPy's choice is inadmissible or breaks a budget (by "
                f"{', '.join(f'{x:.4g} {r}' for x, r in zip(over, model.units.resources))})"
            )
    if search.remaining <= 0:
        raise OutOfTime


def formulate(model: Model) -> Any:
    """Write the MINLP: binaries ``pick[v].one[o]``, objective and budgets as products of them.

    Every table contributes ``sum over entries of table[o_1, ..., o_k] * product of one-hots``,
    nested variable by variable; inadmissible entries are forbidden by a linear inequality.
    """
    import pyomo.environ as pyo

    program = pyo.ConcreteModel()

    def add_options(block: Any, v: int) -> None:
        block.one = pyo.Var(range(model.sizes[v]), domain=pyo.Binary)

    program.blocks = pyo.Block(range(len(model.sizes)), rule=add_options)
    program.pick = {v: program.blocks[v].one for v in range(len(model.sizes))}
    program.one = pyo.Constraint(
        range(len(model.sizes)), rule=lambda m, v: sum(m.pick[v].values()) == 1
    )
    program.forbidden = pyo.ConstraintList()
    value: list = []
    cost: list[list] = [[] for _ in model.budgets]
    for factor in model.factors:
        one = [list(program.pick[v].values()) for v in factor.scope]
        finite = np.where(np.isfinite(factor.value), factor.value, 0.0)
        value.append(_multiply_out(finite, one))
        for r, array in enumerate(factor.cost):
            if array is not None:
                cost[r].append(_multiply_out(array, one))
        for entry in np.argwhere(np.isneginf(factor.value)):
            together = sum(column[int(i)] for column, i in zip(one, entry))
            program.forbidden.add(together <= len(one) - 1)
    # MindtPy minimizes most reliably; slack keeps the budgets as the other methods have them.
    program.value = pyo.Objective(expr=-sum(value), sense=pyo.minimize)
    program.budgets = pyo.ConstraintList()
    for r, terms in enumerate(cost):
        if terms:
            room = float(model.slack[r] + 0.5 * model.tolerances[r])
            program.budgets.add(sum(terms) <= room)
    return program


def _multiply_out(array: np.ndarray, one: list[list]) -> object:
    """Return nested sums: the first variable's one-hot times what the others make of its slices."""
    if len(one) == 1:
        return sum(float(a) * x for a, x in zip(array, one[0]) if a)
    slices = [(x, _multiply_out(part, one[1:])) for part, x in zip(array, one[0]) if part.any()]
    return sum(x * rest for x, rest in slices)
