"""What cutting costs: criteria behind one protocol, and `score`, which runs one on a network."""

from .base import Criterion, Elementwise
from .calibrated import CandidateSample
from .registry import CRITERIA
from .score import score

__all__ = [
    "CRITERIA", "CandidateSample", "Criterion", "Elementwise", "score",
]  # fmt: skip
