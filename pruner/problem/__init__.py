"""From a network, a latency table and scores to the problem that the solver sees."""

from .budget import Budget
from .formulate import LATENCY, formulate, predict, worth, worths

__all__ = [
    "Budget", "LATENCY", "formulate", "predict", "worth", "worths",
]  # fmt: skip
