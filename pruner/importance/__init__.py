"""Importance: criteria behind one protocol, and `score`, which folds them over a network's Dims."""

from .criterion import Criterion, Elementwise
from .importance import Importance
from .registry import CRITERIA
from .score import score

__all__ = ["CRITERIA", "Criterion", "Elementwise", "Importance", "score"]
