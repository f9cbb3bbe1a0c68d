"""A MODEL string becomes a module, its weights, what its inputs look like and how it is called."""

from .load import DenseModel, absolute, load_model
from .submodule import capture_arguments, find_submodule, list_submodules, splice

__all__ = [
    "DenseModel", "absolute", "capture_arguments", "find_submodule", "list_submodules",
    "load_model", "splice",
]  # fmt: skip
