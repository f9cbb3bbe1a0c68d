"""A MODEL string becomes a module, its weights, what its inputs look like and how it is called."""

from .load import DenseModel, absolute, load_model
from .submodule import splice

__all__ = [
    "DenseModel", "absolute", "load_model", "splice",
]  # fmt: skip
