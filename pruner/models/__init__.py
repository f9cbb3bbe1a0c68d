"""Builds the network that a MODEL string names, with its weights, preset and example inputs."""

from .auto_registration import load_auto_classes, register_when_imported
from .example_inputs import Example, make_tensor_example
from .host import Host, PartTask
from .input_specs import InputSpec, make_example, parse_specs, set_batch
from .load import DenseModel, load_model
from .model_names import describe_weights, resolve_name
from .submodule import capture_arguments, find_parts, find_submodule, splice
from .whole import WHOLE, load, save_whole

__all__ = [
    "DenseModel", "Example", "Host", "InputSpec", "PartTask", "WHOLE", "capture_arguments",
    "describe_weights", "find_parts", "find_submodule", "load", "load_auto_classes", "load_model",
    "make_example", "make_tensor_example", "parse_specs", "register_when_imported", "resolve_name",
    "save_whole", "set_batch", "splice",
]  # fmt: skip
