"""Chooses a structure: solves, measures the answer on the device, and tries candidates out."""

from .candidates import STEPS, Candidate, evaluate_candidates
from .frontier import FrontierPoint, find_knee, list_drops, spread_budgets, trace_frontier
from .options import SolveConfig
from .solve_and_measure import Choice, NothingFound, choose, resolve_margin
from .solve_progress import describe_progress

__all__ = [
    "Candidate", "Choice", "FrontierPoint", "NothingFound", "STEPS", "SolveConfig", "choose",
    "describe_progress", "evaluate_candidates", "find_knee", "list_drops", "resolve_margin",
    "spread_budgets", "trace_frontier",
]  # fmt: skip
