"""Chooses a structure: solves, measures the answer on the device, and tries candidates out."""

from .candidates import STEPS, Trial, tried
from .options import SolveConfig
from .solve_and_measure import Choice, choose, margin

__all__ = [
    "Choice", "STEPS", "SolveConfig", "Trial", "choose", "margin", "tried",
]  # fmt: skip
