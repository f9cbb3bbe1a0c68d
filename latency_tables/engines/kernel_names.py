"""From the names that engines give to their kernels back to the operators of the graph."""

import re
from collections.abc import Collection, Mapping

_SEPARATORS = re.compile(r"[\s,;+|]+")
_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def find_operators(
    name: str, known: Collection[str], outputs: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Find the operators that a kernel's name mentions, in order, each once.

    Exporters call every node and value ``<operator>/<anything>``; engines add prefixes
    ("fused "), suffixes ("_nchwc", "_token_3") and join the names of what they fused
    ("a/x + b/y"). So what stands before the first "/" of each part counts, where it is known.

    ``outputs`` maps names of the network's outputs, which these values keep, to the operators that
    compute them. The longest that ``name`` starts with counts where nothing else does.
    """
    found: dict[str, None] = {}
    for part in _SEPARATORS.split(name):
        operator, slash, _ = part.partition("/")
        if slash and operator in known:
            found[operator] = None
    if not found and "/" not in name:
        starts = [o for o in outputs or {} if name == o or name.startswith(f"{o}_")]
        if starts:
            found[(outputs or {})[max(starts, key=len)]] = None
    return tuple(found)


def find_onnx_layers(text: str) -> tuple[str, ...]:
    """Find the ONNX nodes named in TensorRT's metadata, or in a plan, in order, each once."""
    return tuple(dict.fromkeys(_ONNX_LAYER.findall(text)))


def find_output_operators(model: bytes, known: Collection[str]) -> dict[str, str]:
    """Map an ONNX model's outputs to the operators that compute them, where known."""
    import onnx

    graph = onnx.load_model_from_string(model).graph
    outputs = {value.name for value in graph.output}
    return {
        value: node.name.partition("/")[0]
        for node in graph.node
        for value in node.output
        if value in outputs and node.name.partition("/")[0] in known
    }
