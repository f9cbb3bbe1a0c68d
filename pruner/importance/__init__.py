"""What cutting costs: criteria behind one protocol, and `score`, which runs one on a network."""

from .base import Criterion, Elementwise
from .calibrated import Sample
from .registry import CRITERIA
from .score import score

__all__ = [
    "CRITERIA", "Criterion", "Elementwise", "Sample", "score",
]  # fmt: skip
