"""Chooses a structure: solves, measures the answer on the device, and tries candidates out."""

from .candidates import STEPS, Candidate, evaluate_candidates
from .options import SolveConfig
from .solve_and_measure import Choice, choose, resolve_margin

__all__ = [
    "Candidate", "Choice", "STEPS", "SolveConfig", "choose", "evaluate_candidates",
    "resolve_margin",
]  # fmt: skip
