"""The one family of exceptions of :mod:`solver`: misuse, refused where it enters.

An infeasible problem is no misuse: it is a :class:`~solver.Solution` that says what the smallest
reachable cost is.
"""


class SolverError(Exception):
    """Base class of everything that this package raises on purpose."""


class ProblemError(SolverError, ValueError):
    """A problem, a table or a JSON file is malformed; the message names the place."""


class BudgetError(ProblemError):
    """A budget is negative, not finite, or for a resource that no table costs."""


class MethodError(SolverError, ValueError):
    """An unknown method, or one that cannot take this problem (brute force on 10^30 choices)."""


class MissingSolverError(SolverError, RuntimeError):
    """A program that the chosen method needs is not installed; the message says what to install."""
