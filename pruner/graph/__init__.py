"""Reads and writes graphs: a model captured, its layers rebuilt, run in stages, exported to ONNX.

Everything here knows operators and tensors and nothing of pruning.
"""

from .blocks import Block, drop_blocks
from .capture import BATCH_HINT, Program, export
from .eval_mode import evaluation_mode, to_device
from .io_spec import decode_spec, encode_spec
from .layer_registry import BY_NAME, SETTINGS, build, settings
from .linear_layers import (
    Layer,
    effective_weight,
    is_norm,
    is_plain,
    layer_at,
    norm_behind,
    only_user,
    scale_of,
    source,
)
from .materialize import materialize, put_module, put_tensor
from .onnx.export import flatten_io, to_onnx
from .onnx.template_cache import probe_onnx
from .ops import arguments, depends_on_input, operator_name
from .outputs import logits
from .staged_execution import Replay

__all__ = [
    "BATCH_HINT", "BY_NAME", "Block", "Layer", "Program", "Replay", "SETTINGS", "arguments",
    "build", "decode_spec", "depends_on_input", "drop_blocks", "effective_weight", "encode_spec",
    "evaluation_mode", "export", "flatten_io", "is_norm", "is_plain", "layer_at", "logits",
    "materialize", "norm_behind", "only_user", "operator_name", "probe_onnx", "put_module",
    "put_tensor", "scale_of", "settings", "source", "to_device", "to_onnx",
]  # fmt: skip
