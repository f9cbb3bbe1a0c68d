"""Estimates what cutting costs: criteria behind one protocol, and `score`, which runs one."""

from .base import Criterion, Elementwise
from .candidate_sample import CandidateSample
from .combine import combine_importances
from .options import ScoreConfig
from .refined import Savings, lagrangian_plan
from .registry import CRITERIA, needs_target
from .score import score
from .solution_path import SolutionPath

__all__ = [
    "CRITERIA", "CandidateSample", "Criterion", "Elementwise", "Savings", "ScoreConfig",
    "SolutionPath", "combine_importances", "lagrangian_plan", "needs_target", "score",
]  # fmt: skip
