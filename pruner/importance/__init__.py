"""Estimates what cutting costs: criteria behind one protocol, and `score`, which runs one."""

from .base import Criterion, Elementwise
from .candidate_sample import CandidateSample
from .registry import CRITERIA, needs_target
from .score import score

__all__ = [
    "CRITERIA", "CandidateSample", "Criterion", "Elementwise", "needs_target", "score",
]  # fmt: skip
