"""From a network, a latency table and scores to the problem that the solver sees."""

from .budget import Budget
from .formulate import LATENCY, formulate, predict
from .objective import objective_terms, objective_value

__all__ = [
    "Budget", "LATENCY", "formulate", "objective_terms", "objective_value", "predict",
]  # fmt: skip
