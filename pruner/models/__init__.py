"""Builds the network that a MODEL string names, with its weights, preset and example inputs."""

from .example_inputs import Example
from .host import Host, PartTask
from .load import DenseModel, load_model
from .model_names import resolve_name
from .submodule import (
    capture_arguments,
    find_submodule,
    find_traceable_parts,
    list_submodules,
    splice,
)

__all__ = [
    "DenseModel", "Example", "Host", "PartTask", "capture_arguments", "find_submodule",
    "find_traceable_parts", "list_submodules", "load_model", "resolve_name", "splice",
]  # fmt: skip
