"""TorchScript, by tracing, run by torch."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import fx

from ..graph import is_operator, operator_name
from .base import Run, WriteOptions
from .plain_network import PlainNetwork
from .pt2_format import METADATA, make_torch_run

_CLASS = "Network"  # a network's own name, such as timm:resnet50, would be no name in the script


class TorchScriptFormat:
    """What ``torch.jit.load`` and libtorch read."""

    name = "torchscript"
    suffixes: tuple[str, ...] = (".torchscript.pt", ".pt", ".ts")
    precisions: tuple[str, ...] = ("fp32", "fp16")
    frees_batch = True

    def write(self, network: PlainNetwork, options: WriteOptions, file: Path) -> None:
        """Write the traced network with its metadata."""
        plain = network.to_half() if options.precision == "fp16" else network
        module = spell_sizes(plain.module)
        with torch.no_grad():
            traced = torch.jit.trace(module, plain.inputs, strict=False, check_trace=False)
        extra = {METADATA: json.dumps(dict(options.metadata))}
        torch.jit.save(traced, str(file), _extra_files=extra)

    def open(self, file: Path, threads: int) -> Run:
        """Load the script."""
        return make_torch_run(torch.jit.load(str(file)))

    def name_runtime(self) -> str:
        """Return ``torch 2.6.0``."""
        return f"torch {torch.__version__}"


def spell_sizes(module: fx.GraphModule) -> fx.GraphModule:
    """Return a network whose sizes are asked for and used in words that tracing records.

    It takes what the operator ``sym_size`` returns, and numbers among an operator's arguments, for
    constants; those of methods of tensors and of functions of torch it keeps as values.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(module.graph, copies))
    numbers: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        if node.target is torch.ops.aten.sym_size.int:
            node.op, node.target = "call_method", "size"
            numbers.add(node)
        elif not is_operator(node.target):
            if node.all_input_nodes and numbers.issuperset(node.all_input_nodes):
                numbers.add(node)  # arithmetic on sizes
        elif not numbers.isdisjoint(node.all_input_nodes):
            _spell_call(node, numbers)
    return fx.GraphModule(module, graph, class_name=_CLASS)


def _spell_call(node: fx.Node, numbers: set[fx.Node]) -> None:
    """Turn an operator into the tensor's method, or torch's function, of its name."""
    name = operator_name(node)
    first = node.args[0] if node.args else None
    if isinstance(first, fx.Node) and first not in numbers and hasattr(torch.Tensor, name):
        node.op, node.target = "call_method", name
    elif hasattr(torch, name):
        node.target = getattr(torch, name)
