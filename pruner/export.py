"""ONNX export through ``torch.onnx``, ONNX nodes named after the nodes of the graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

if TYPE_CHECKING:
    import onnx

_SCOPES = "pkg.torch.onnx.name_scopes"
_WRAPPER = "fx_call_"


def to_onnx(
    module: nn.Module, inputs: tuple[Any, ...], *, dynamic_batch: bool = False
) -> onnx.ModelProto:
    """The module as an ONNX model, batch normalizations folded into their convolutions.

    Where ``module`` is a ``torch.fx.GraphModule``, every ONNX node, and every value that is not an
    input, an output or an initializer, is called ``<graph node>/<name>``: an engine's per-operator
    times then lead back to the graph. Initializers keep their ``state_dict`` names.

    inputs
        Positional example inputs; with ``dynamic_batch`` the first axis of each is free.

    Raises ``ValueError`` where the module is in training mode: what is exported is inference.
    """
    if module.training:
        raise ValueError("to_onnx exports inference: call module.eval() first")
    names: dict[str, str] = {}
    if isinstance(module, fx.GraphModule):
        module, names = _wrapped(module)
    with _quiet():
        model = _export(module, inputs, dynamic_batch)
    _rename(model, names)
    return model


def _export(module: nn.Module, inputs: tuple[Any, ...], dynamic_batch: bool) -> onnx.ModelProto:
    shapes: Any = None
    if dynamic_batch:
        batch = torch.export.Dim("batch")
        shapes = [{0: batch} if isinstance(x, torch.Tensor) and x.dim() else None for x in inputs]
        # One example of batch 1 would be specialized to 1.
        inputs = tuple(
            torch.cat([x, x]) if isinstance(x, torch.Tensor) and x.dim() and len(x) == 1 else x
            for x in inputs
        )
    with torch.no_grad():
        exported = torch.export.export(
            module, inputs, dynamic_shapes=None if shapes is None else tuple(shapes), strict=False
        )
        program = torch.onnx.export(exported, dynamo=True, verbose=False)
    assert program is not None
    return program.model_proto


class _Call(nn.Module):
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


class _Hole:
    def __init__(self, index: int) -> None:
        self.index = index


def _wrapped(module: fx.GraphModule) -> tuple[nn.Module, dict[str, str]]:
    """A copy of the graph in which every operator is a module; wrapper -> graph node."""
    graph = fx.Graph()
    root = nn.Module()
    for name, value in vars(module).items():  # constants that get_attr nodes read
        if isinstance(value, torch.Tensor):
            setattr(root, name, value)
    root._modules.update(module._modules)
    root._parameters.update(module._parameters)
    root._buffers.update(module._buffers)
    names: dict[str, str] = {}
    new: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        if node.op not in ("call_function", "call_method", "call_module"):
            new[node] = graph.node_copy(node, lambda n: new[n])
            continue
        values: list[fx.Node] = []

        def hole(argument: fx.Node, values: list[fx.Node] = values) -> Any:
            values.append(argument)
            return _Hole(len(values) - 1)

        args, kwargs = fx.node.map_arg((node.args, node.kwargs), hole)
        if node.op == "call_module":
            function: Any = module.get_submodule(str(node.target))
        elif node.op == "call_method":
            function = _method(str(node.target))
        else:
            function = node.target
        wrapper = f"{_WRAPPER}{len(names)}"
        names[wrapper] = node.name
        root.add_module(wrapper, _Call(function, args, kwargs))
        new[node] = graph.call_module(wrapper, tuple(new[v] for v in values))
        new[node].name = node.name
    copy = fx.GraphModule(root, graph)
    # A GraphModule takes over what its graph names; the layers that the wrappers hold come under
    # their own names here, so that their parameters keep their names.
    copy._modules.update(module._modules)
    return copy.eval() if not module.training else copy, names


def _method(name: str) -> Callable[..., Any]:
    return lambda value, *args, **kwargs: getattr(value, name)(*args, **kwargs)


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    graph = model.graph
    fixed = {v.name for v in (*graph.input, *graph.output, *graph.initializer)}
    renamed: dict[str, str] = {}
    for node in graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == _SCOPES), "")
        operator = next((real for wrapper, real in names.items() if f"'{wrapper}'" in scopes), "")
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints and logs its steps; errors still come as exceptions."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
