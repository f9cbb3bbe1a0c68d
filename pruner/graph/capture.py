"""A network as a plain graph of ATen operators and a dictionary of tensors.

``torch.export`` reads the model; here its graph is brought into one canonical form: tensors are
``get_attr`` nodes under their ``state_dict`` names, in-place operators are functional, the several
ways to split a tensor are one, assertions are gone, and what only training draws is marked.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from ..errors import TraceError, first_line
from ..utils import silence_logging
from .eval_mode import evaluation_mode
from .functionalize import functionalize, is_mutable, positional, root, simplified, twin
from .ops import operator_name
from .tensor_names import group_tied_names
from .training_mode import asks, carry_over
from .unfuse import separate

BATCH_HINT = 7919
"""The dynamic batch is looked at as this many images: a prime that no width or map size shares,
so that a reshape which mixes the batch with windows or heads factors in one way only."""

_ASSERTIONS = ("_assert", "sym_constrain")


@dataclass(frozen=True)
class Program:
    """graph
        ATen operators; ``meta["shape"]`` holds the shape (or a list of them) as integers, the
        batch as :data:`BATCH_HINT`; ``meta["path"]`` the module that the operator was called in;
        ``meta["training"]`` the arguments that are others in training.
    tensors
        Parameters and buffers by their ``state_dict`` names; parameters are ``nn.Parameter``.
    in_spec, out_spec
        How arguments and results are nested (``torch.utils._pytree``).
    batch
        ``BATCH_HINT``, or the fixed batch that the network insists on.
    tied
        Other names of tensors -> their names in ``tensors``.
    transient
        Buffers that ``state_dict`` leaves out.
    notes
        What the network does in training only and the graph does not hold, in words.
    """

    graph: fx.Graph
    tensors: Mapping[str, Tensor]
    in_spec: pytree.TreeSpec
    out_spec: pytree.TreeSpec
    batch: int
    tied: Mapping[str, str] = field(default_factory=dict)
    transient: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def capture_program(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Program:
    """Read a model (in eval mode; it is left as it was) into a Program.

    The first axis of every tensor input is the batch, dynamic where ``torch.export`` can keep it
    so, else fixed at that of the inputs. Raises :class:`TraceError` where it cannot be exported.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operator for a whole encoder layer
    try:
        with evaluation_mode(model):
            exported, batch, call = _export(model, inputs, dict(kwargs or {}))
            program = _canonical(exported, batch, model)
            model.train()
            _mark_norms(program.graph, model)
            notes = _add_training(program, model, call) if asks(model) else ()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    separate(program.graph)
    _drop_dead(program.graph)
    return replace(program, notes=notes)


def _add_training(program: Program, model: nn.Module, call: _Call) -> tuple[str, ...]:
    """Carry over what the model does in training only; returns what of it is not kept."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.eval()  # its mode is its layer's own affair
    try:
        exported = _call_export(model, *call)
    except Exception as error:  # many networks return or ask for something else in training
        reason = first_line(error, with_kind=False)
        return (f"in training it cannot be exported, stochastic depth is lost: {reason}",)
    return carry_over(program.graph, _canonical(exported, program.batch, model).graph)


def _mark_norms(graph: fx.Graph, model: nn.Module) -> None:
    """Note which batch norms a model in training mode keeps frozen, which average all batches."""
    modules = dict(model.named_modules())
    for node in graph.nodes:
        module = modules.get(node.meta.get("path", ""))
        if isinstance(module, nn.modules.batchnorm._NormBase) and "norm" in operator_name(node):
            if not module.training:
                node.meta["training"] = {"frozen": True}
            elif module.momentum is None:
                node.meta["training"] = {"momentum": None}


_Call = tuple[tuple[Any, ...], dict[str, Any], Any]
"""Example arguments, keyword arguments, and their dynamic shapes."""


def _export(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.export.ExportedProgram, int, _Call]:
    batch = torch.export.Dim("batch", min=1)
    leaves = [leaf for leaf in pytree.tree_leaves((inputs, kwargs)) if isinstance(leaf, Tensor)]
    sizes = {leaf.shape[0] for leaf in leaves if leaf.dim()}
    if not leaves:
        raise TraceError("no tensor among the example inputs; give the model's inputs as tensors")
    error: Exception | None = None
    if len(sizes) == 1:
        doubled = sizes == {1}  # an example batch of one would be taken for a constant

        def example(leaf: Any) -> Any:
            return torch.cat([leaf, leaf]) if doubled and _batched(leaf) else leaf

        def dynamic(leaf: Any) -> Any:
            return {0: batch} if _batched(leaf) else None

        wide, wide_kwargs = pytree.tree_map(example, (inputs, kwargs))
        shapes = pytree.tree_map(dynamic, (inputs, kwargs))
        call: _Call = (wide, wide_kwargs, by_name(model, *shapes))
        try:
            return _call_export(model, *call), BATCH_HINT, call
        except Exception as failure:  # torch.export raises of many kinds; all mean the same here
            error = failure
    call = (inputs, kwargs, None)
    try:
        exported = _call_export(model, *call)
    except Exception as failure:
        reason = first_line(error or failure, with_kind=False)
        raise TraceError(
            f"torch.export cannot read {type(model).__name__}: {reason}. "
            "Give a part of it that can be traced, such as its backbone."
        ) from failure
    return exported, next(iter(sizes), 1), call


def _batched(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0


def by_name(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """torch.export wants the dynamic shapes of keyword arguments in one dictionary by name."""
    if not kwargs:
        return args
    import inspect

    names = [name for name in inspect.signature(model.forward).parameters if name not in kwargs]
    return {**dict(zip(names, args)), **kwargs}


def _call_export(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any
) -> torch.export.ExportedProgram:
    # A failure is logged and printed with its whole graph, then raised.
    printed = contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), printed, silence_logging(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(model, inputs, kwargs, dynamic_shapes=shapes, strict=False)


def _canonical(exported: torch.export.ExportedProgram, batch: int, model: nn.Module) -> Program:
    exported = functionalize(exported)
    names, tensors, transient = _tensors(exported)
    graph = fx.Graph()
    new: dict[fx.Node, fx.Node] = {}
    holders: dict[fx.Node, list[fx.Node]] = defaultdict(list)  # the inverse of new

    def put(node: fx.Node, made: fx.Node) -> None:
        new[node] = made
        holders[made].append(node)

    for node in exported.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            if not node.users:
                continue
            made = graph.create_node("get_attr", names[node.name], name=node.name)
        elif node.op == "placeholder":
            made = graph.placeholder(node.name)
        elif node.op == "output":
            _put_output(graph, exported, fx.node.map_arg(node.args[0], new.__getitem__))
            continue
        elif any(word in str(node.target) for word in _ASSERTIONS):
            continue
        else:
            made = graph.node_copy(node, new.__getitem__)
            made.meta = {}
        made.meta["shape"] = _shape(node.meta.get("val"), batch)
        made.meta["path"] = _path(node)
        made.meta["dtype"] = getattr(node.meta.get("val"), "dtype", None)
        if is_mutable(made) and root(made).op == "call_function":
            written = made.args[0]
            assert isinstance(written, fx.Node)
            made.args = positional(made)  # the twin may have other defaults
            made.target = twin(made.target)
            for earlier in holders.pop(written, []):
                put(earlier, made)
        _one_split(made)
        _any_layout(made)
        put(node, simplified(graph, made))
    _drop_dead(graph)
    used = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    tied = _tied(model, used)
    return Program(
        graph,
        {name: tensor for name, tensor in tensors.items() if name not in tied},
        exported.call_spec.in_spec,
        exported.call_spec.out_spec,
        batch,
        tied,
        transient,
    )


def _tensors(
    exported: torch.export.ExportedProgram,
) -> tuple[dict[str, str], dict[str, Tensor], frozenset[str]]:
    """The names of the graph's placeholders, the tensors by these, those not in state_dict."""
    signature = exported.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    tensors: dict[str, Tensor] = {}
    for name in names.values():
        value = exported.state_dict.get(name)
        # constants, and buffers that state_dict leaves out (persistent=False), are kept apart
        tensors[name] = exported.constants[name] if value is None else value
    transient = {n for n in names.values() if n not in exported.state_dict}
    return names, tensors, frozenset(transient)


def _tied(model: nn.Module, used: set[str]) -> dict[str, str]:
    """Other names of tensors of the graph: tied weights, and modules that are held twice."""
    return {
        name: kept
        for group in group_tied_names(model)
        for kept in [name for name in group if name in used][:1]
        for name in group
        if name not in used
    }


def _put_output(graph: fx.Graph, exported: torch.export.ExportedProgram, values: Any) -> None:
    """The results; buffers that the network writes are written, its inputs are left alone."""
    results = []
    for value, spec in zip(values, exported.graph_signature.output_specs):
        if spec.kind is OutputKind.USER_OUTPUT:
            results.append(value)
        elif spec.kind is OutputKind.BUFFER_MUTATION:
            buffer = next(
                (n for n in graph.nodes if n.op == "get_attr" and n.target == spec.target), None
            ) or graph.get_attr(spec.target)
            buffer.meta.setdefault("shape", value.meta["shape"])
            made = graph.call_function(torch.ops.aten.copy_.default, (buffer, value))
            made.meta.update(value.meta)
    graph.output(tuple(results))


def _shape(value: Any, batch: int) -> Any:
    """Integers for a tensor's sizes, a list for several tensors, None for what is no tensor."""
    if isinstance(value, Tensor):
        return tuple(_integer(size, batch) for size in value.shape)
    if isinstance(value, list | tuple):
        return [_shape(item, batch) for item in value]
    return None


def _integer(size: Any, batch: int) -> int:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs({symbol: batch for symbol in expression.free_symbols}))


def _path(node: fx.Node) -> str:
    """The dotted name of the innermost module that the operator was called in."""
    stack = [
        entry[0]
        for key, entry in (node.meta.get("nn_module_stack") or {}).items()
        if not str(key).startswith("_empty")
    ]
    return str(stack[-1]) if stack else ""


def _one_split(node: fx.Node) -> None:
    """chunk and split become split_with_sizes: the sizes of the parts are then plain numbers."""
    if node.op != "call_function" or operator_name(node) not in ("chunk", "split"):
        return
    source, dim = node.args[0], node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0)
    assert isinstance(source, fx.Node) and isinstance(dim, int)
    sizes = [shape[dim] for shape in node.meta["shape"]]
    if dim == 0 or dim == -len(source.meta["shape"]):
        return  # parts of the batch are not plain numbers
    node.target = torch.ops.aten.split_with_sizes.default
    node.args, node.kwargs = (source, sizes, dim), {}


def _any_layout(node: fx.Node) -> None:
    """view becomes reshape: if a view can be had depends on strides, which a cut changes."""
    if node.op == "call_function" and node.target in _VIEWS:
        node.target = torch.ops.aten.reshape.default


_VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)


def _drop_dead(graph: fx.Graph) -> None:
    """Remove what nothing reads (in-place writes that stayed are kept)."""
    for node in reversed(list(graph.nodes)):
        if node.users or node.op in ("placeholder", "output"):
            continue
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            continue
        graph.erase_node(node)
