"""From a network, a latency table and scores to the problem that the solver sees."""

from .budget import Budget
from .formulate import LATENCY, formulate, objective_terms, objective_value, predict

__all__ = [
    "Budget", "LATENCY", "formulate", "objective_terms", "objective_value", "predict",
]  # fmt: skip
