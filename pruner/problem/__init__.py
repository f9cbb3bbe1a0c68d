"""From a network, a latency table and scores to the problem that the solver sees."""

from .budget import Budget
from .constraints import Constraints, find_matches
from .formulate import LATENCY, formulate
from .latency import predict
from .limits import RESOURCES, Limit, split_limit
from .objective import objective_terms, objective_value

__all__ = [
    "Budget", "Constraints", "LATENCY", "Limit", "RESOURCES", "find_matches", "formulate",
    "objective_terms", "objective_value", "predict", "split_limit",
]  # fmt: skip
