"""Chooses a structure: solves, measures the answer on the device, and tries candidates out."""

from .candidates import STEPS, Candidate, evaluate_candidates
from .options import SolveConfig
from .solve_and_measure import Choice, choose, free_share

__all__ = [
    "Candidate", "Choice", "STEPS", "SolveConfig", "choose", "evaluate_candidates", "free_share",
]  # fmt: skip
