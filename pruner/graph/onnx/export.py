"""Export through ``torch.onnx``, ONNX nodes named after the nodes of the graph.

An ONNX model takes and returns plain tensors, so a network with keyword or nested arguments is
looked at as its graph is: tensors in, one after the other, tensors out.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ...errors import PrunerError
from ...utils import silence_logging
from ..exporting import ExportCall, free_batch
from ..input_values import InputValues
from ..io_spec import flatten_arguments
from ..ops import producer_of
from ..torch_internals import child_modules, share_contents
from .spellings import SPELLINGS
from .transpose_pass import merge_transpositions

if TYPE_CHECKING:
    import onnx

_SCOPES = "pkg.torch.onnx.name_scopes"
_WRAPPER = "fx_call_"


def to_onnx(
    module: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_batch: bool = False,
) -> onnx.ModelProto:
    """Export a module as an ONNX model, batch normalizations folded into their convolutions.

    Where ``module`` is a ``torch.fx.GraphModule``, every ONNX node, and every value that is not an
    input, an output or an initializer, is called ``<graph node>/<name>``: an engine's per-operator
    times then lead back to the graph. Initializers keep their ``state_dict`` names.

    Args:
        module: In evaluation mode.
        inputs: Example arguments, nested as the module takes them; of a ``GraphModule`` also one
            after the other (``Network.inputs``). The ONNX inputs are the tensors, in this order,
            under the names of the arguments.
        kwargs: Example keyword arguments.
        dynamic_batch: Leave the first axis of every input free.

    Raises:
        ValueError: The module is in training mode (what is exported is inference), or a
            ``GraphModule`` takes another number of values.
        PrunerError: An operator has no ONNX form.
    """
    if module.training:
        raise ValueError("to_onnx exports inference: call module.eval() first")
    names: dict[str, str] = {}
    kwargs = dict(kwargs or {})
    if isinstance(module, fx.GraphModule):
        module, inputs = flatten_io(module, inputs, kwargs)
        module, names = _wrap_operators(module)
        kwargs = {}
    # The exporter prints and logs its steps; errors still come as exceptions.
    printed = contextlib.redirect_stdout(io.StringIO())
    with warnings.catch_warnings(), printed, silence_logging():
        warnings.simplefilter("ignore")
        model = _export(module, inputs, kwargs, dynamic_batch)
    merge_transpositions(model)
    _name_operators(model, names)
    return model


def flatten_io(
    module: fx.GraphModule, inputs: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> tuple[fx.GraphModule, tuple[Tensor, ...]]:
    """Return the network as a function of plain tensors, and the tensors to call it with.

    It shares the module's tensors; what among its results is no tensor is left out. Arguments that
    are no tensors (None, numbers) stand in the graph since tracing, and fall away.

    Raises:
        ValueError: The network takes another number of arguments.
        PrunerError: One that is no tensor is another than it was traced with.
    """
    leaves = flatten_arguments(module, inputs, kwargs or {})
    taken = [node for node in module.graph.nodes if node.op == "placeholder"]
    if len(leaves) != len(taken):
        names = ", ".join(str(node.target) for node in taken)
        raise ValueError(f"the network takes {len(taken)} values ({names}), got {len(leaves)}")
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    result = graph.graph_copy(module.graph, copies)
    if isinstance(result, tuple | list):
        result = tuple(value for value in result if isinstance(value, fx.Node))
    graph.output(result)
    given = dict(zip(taken, leaves))
    for node in module.graph.nodes:
        layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, InputValues):
            layer(*(given.get(argument) for argument in node.args))
            copies[node].replace_all_uses_with(copies[producer_of(node)])
            graph.erase_node(copies[node])
    for node, leaf in given.items():
        if not isinstance(leaf, Tensor):
            graph.erase_node(copies[node])
    plain = fx.GraphModule(module, graph, class_name=type(module).__name__)
    return plain, tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))


def _export(
    module: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any], dynamic_batch: bool
) -> onnx.ModelProto:
    call = ExportCall(inputs, kwargs)
    if dynamic_batch:
        call = free_batch(module, inputs, kwargs, torch.export.Dim("batch"))
    with torch.no_grad():
        exported = torch.export.export(
            module, call.args, call.kwargs, dynamic_shapes=call.shapes, strict=False
        )
        try:
            program = torch.onnx.export(exported, dynamo=True, verbose=False)
        except torch.onnx.OnnxExporterError as error:
            raise PrunerError(_explain(error, exported.graph)) from error
        if program is not None and _reads_unwritten(program.model_proto):
            # The exporter's simplification loses a bound where one value is clamped twice.
            program = torch.onnx.export(exported, dynamo=True, verbose=False, optimize=False)
    assert program is not None
    return program.model_proto


def _explain(error: Exception, graph: fx.Graph) -> str:
    """Say in one line which operator of a graph ONNX cannot take."""
    said = f"{error} {error.__cause__}"
    found = re.search(r"target=torch\.ops\.(\w+\.\w+)", said) or re.search(
        r"<OpOverload\(op='([\w.]+)'", said
    )
    operator = f"operator {found[1]}" if found else "one of its operators"
    values = [value for n in graph.nodes for value in pytree.tree_leaves(n.meta.get("val"))]
    is_complex = any(isinstance(value, Tensor) and value.is_complex() for value in values)
    kind = " of complex numbers" if is_complex else ""
    return (
        f"the network cannot be written as ONNX: {operator}{kind} has no ONNX form. ONNX Runtime, "
        "OpenVINO and TensorRT read networks as ONNX; measure with --engine torch"
    )


def _reads_unwritten(model: onnx.ModelProto) -> bool:
    """Whether an operator reads a value that nothing writes."""
    graph = model.graph
    known = {""} | {v.name for v in (*graph.input, *graph.initializer)}
    known.update(name for node in graph.node for name in node.output)
    return any(name not in known for node in graph.node for name in node.input)


class _OperatorModule(nn.Module):
    """One node of a graph as a module, so that the exporter's scopes carry its name."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        super().__init__()
        # In a tuple, so that a module held here is not registered a second time.
        self.held = (function,)
        self.template = (args, kwargs)

    def forward(self, *values: Any) -> Any:
        args, kwargs = fx.node.map_aggregate(
            self.template, lambda a: values[a.index] if isinstance(a, _Hole) else a
        )
        return self.held[0](*args, **kwargs)


@dataclass(frozen=True)
class _Hole:
    """The place among the arguments of a node of its input of this index."""

    index: int


def _wrap_operators(module: fx.GraphModule) -> tuple[nn.Module, dict[str, str]]:
    """Copy a graph so that every operator is a module; return it and wrapper -> graph node."""
    graph = fx.Graph()
    root = nn.Module()
    for name, value in vars(module).items():  # constants that get_attr nodes read
        if isinstance(value, torch.Tensor):
            setattr(root, name, value)
    share_contents(root, module)
    names: dict[str, str] = {}
    new: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        if node.op not in ("call_function", "call_method", "call_module"):
            new[node] = graph.node_copy(node, new.__getitem__)
            continue
        holes: dict[Any, Any] = {source: _Hole(i) for i, source in enumerate(node.all_input_nodes)}
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), holes.__getitem__)
        if node.op == "call_module":
            function: Any = module.get_submodule(str(node.target))
        elif node.op == "call_method":
            function = _bind_method(str(node.target))
        else:
            function = SPELLINGS.get(node.target, node.target)
        wrapper = f"{_WRAPPER}{len(names)}"
        names[wrapper] = node.name
        root.add_module(wrapper, _OperatorModule(function, args, kwargs))
        new[node] = graph.call_module(wrapper, tuple(map(new.__getitem__, holes)))
        new[node].name = node.name
    copy = fx.GraphModule(root, graph)
    # A GraphModule takes over what its graph names; the layers that the wrappers hold come under
    # their own names here, so that their parameters keep their names.
    child_modules(copy).update(child_modules(module))
    return copy.eval() if not module.training else copy, names


def _bind_method(name: str) -> Callable[..., Any]:
    return lambda value, *args, **kwargs: getattr(value, name)(*args, **kwargs)


def _name_operators(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Name ONNX nodes and their values after the graph's nodes that they come from."""
    graph = model.graph
    fixed = {v.name for v in (*graph.input, *graph.output, *graph.initializer)}
    renamed: dict[str, str] = {}
    for node in graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == _SCOPES), "")
        wrapper = re.search(rf"'({_WRAPPER}\d+)'", scopes)
        operator = names.get(wrapper[1], "") if wrapper else ""
        if operator:
            node.name = f"{operator}/{node.name or node.op_type}"
            renamed |= {o: f"{operator}/{o}" for o in node.output if o and o not in fixed}
        # Stack traces hold this machine's paths, and are larger than a small network.
        del node.metadata_props[:]
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in graph.value_info:
        value.name = renamed.get(value.name, value.name)
        del value.metadata_props[:]
