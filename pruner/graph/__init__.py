"""Reads and writes graphs: a model captured, its layers rebuilt, run in stages, exported to ONNX.

Everything here knows operators and tensors and nothing of pruning.
"""

from .blocks import Block, drop_blocks, is_repeated
from .capture import capture_program
from .eval_mode import evaluation_mode, find_device, move_to_device
from .exporting import export_program
from .input_values import InputValues
from .io_spec import decode_spec, encode_spec, flatten_arguments, nest_results
from .joined_programs import GraphPart, detach_part, join_programs
from .layer_registry import LAYER_SETTINGS, LAYERS_BY_NAME, build_layer, layer_settings
from .linear_layers import (
    LinearLayer,
    batch_norm_scale,
    effective_weight,
    find_batch_norm_after,
    get_layer,
    is_batch_norm,
    is_ungrouped,
    only_user,
)
from .materialize import (
    materialize,
    put_missing_tensors,
    put_module,
    put_tensor,
    share_layers,
)
from .model_state import keep_model
from .name_escapes import is_speakable, rename_by_prefix, renamed_parts, restore_names
from .onnx.export import flatten_io, to_onnx
from .onnx.template_cache import build_probe_onnx
from .ops import (
    find_input_dependent,
    is_mutable,
    operator_arguments,
    operator_name,
    producer_of,
    target_name,
)
from .program import BATCH_HINT, Program, group_tied_names, named_tensors
from .rebuilt_module import LayerGroup, RebuiltModule, order_tensors
from .single_values import allow_single_values
from .staged_execution import StagedExecution
from .stochastic import DotProductAttention, DropPath
from .torch_internals import (
    BatchNorm,
    Convolution,
    FakeTensorMode,
    TableReads,
    child_modules,
    computes_alone,
    io_nesting,
    is_operator,
    operator_schema,
    set_io_nesting,
)
from .traceable_parts import describe_traceable_parts
from .wrappers import copy_model, unwrap_model

__all__ = [
    "BATCH_HINT", "BatchNorm", "Block", "Convolution", "DotProductAttention", "DropPath",
    "FakeTensorMode", "GraphPart", "InputValues",
    "LAYERS_BY_NAME", "LAYER_SETTINGS", "LayerGroup", "LinearLayer", "Program", "RebuiltModule",
    "StagedExecution", "TableReads", "allow_single_values", "batch_norm_scale", "build_layer",
    "build_probe_onnx", "capture_program", "child_modules", "computes_alone", "copy_model",
    "decode_spec", "describe_traceable_parts", "detach_part", "drop_blocks", "effective_weight",
    "encode_spec", "evaluation_mode", "export_program", "find_batch_norm_after", "find_device",
    "find_input_dependent", "flatten_arguments", "flatten_io", "get_layer", "group_tied_names",
    "io_nesting", "is_batch_norm", "is_mutable", "is_operator", "is_repeated", "is_speakable",
    "is_ungrouped", "join_programs", "keep_model", "layer_settings", "materialize",
    "move_to_device", "named_tensors", "nest_results", "only_user", "operator_arguments",
    "operator_name", "operator_schema", "order_tensors", "producer_of", "put_missing_tensors",
    "put_module", "put_tensor", "rename_by_prefix", "renamed_parts", "restore_names",
    "set_io_nesting", "share_layers", "target_name", "to_onnx", "unwrap_model",
]  # fmt: skip
