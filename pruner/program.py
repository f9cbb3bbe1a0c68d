"""A network as a plain graph of ATen operators and a dictionary of tensors.

``torch.export`` reads the model; here its graph is brought into one canonical form: tensors are
``get_attr`` nodes under their ``state_dict`` names, in-place operators are functional, the several
ways to split a tensor are one, and assertions are gone.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from .errors import TraceError
from .nodes import operator_name
from .separate import separate

BATCH_HINT = 7919
"""The dynamic batch is looked at as this many images: a prime that no width or map size shares,
so that a reshape which mixes the batch with windows or heads factors in one way only."""

_ASSERTIONS = ("_assert", "sym_constrain")


@dataclass(frozen=True)
class Program:
    """graph
        ATen operators; ``meta["shape"]`` holds the shape (or a list of them) as integers, the
        batch as :data:`BATCH_HINT`; ``meta["path"]`` the module that the operator was called in.
    tensors
        Parameters and buffers by their ``state_dict`` names; parameters are ``nn.Parameter``.
    in_spec, out_spec
        How arguments and results are nested (``torch.utils._pytree``).
    batch
        ``BATCH_HINT``, or the fixed batch that the network insists on.
    """

    graph: fx.Graph
    tensors: Mapping[str, Tensor]
    in_spec: pytree.TreeSpec
    out_spec: pytree.TreeSpec
    batch: int


def export(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Program:
    """Read a model (in eval mode; it is left as it was) into a Program.

    The first axis of every tensor input is the batch, dynamic where ``torch.export`` can keep it
    so, else fixed at that of the inputs. Raises :class:`TraceError` where it cannot be exported.
    """
    training = {name: module.training for name, module in model.named_modules()}
    model.eval()
    try:
        exported, batch = _export(model, inputs, dict(kwargs or {}))
    finally:
        for name, module in model.named_modules():
            module.training = training[name]
    return _canonical(exported, batch)


def _export(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.export.ExportedProgram, int]:
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
        try:
            return _call_export(model, wide, wide_kwargs, _by_name(model, *shapes)), BATCH_HINT
        except Exception as failure:  # torch.export raises of many kinds; all mean the same here
            error = failure
    try:
        exported = _call_export(model, inputs, kwargs, None)
    except Exception as failure:
        raise TraceError(
            f"torch.export cannot read {type(model).__name__}: {_first_line(error or failure)}. "
            "Give a part of it that can be traced, such as its backbone."
        ) from failure
    return exported, next(iter(sizes), 1)


def _batched(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0


def _by_name(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """torch.export wants the dynamic shapes of keyword arguments in one dictionary by name."""
    if not kwargs:
        return args
    import inspect

    names = [name for name in inspect.signature(model.forward).parameters if name not in kwargs]
    return {**dict(zip(names, args)), **kwargs}


def _call_export(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any
) -> torch.export.ExportedProgram:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(model, inputs, kwargs, dynamic_shapes=shapes, strict=False)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _canonical(exported: torch.export.ExportedProgram, batch: int) -> Program:
    signature = exported.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = {
        node: name
        for node, name in getattr(signature, "inputs_to_lifted_tensor_constants", {}).items()
    }
    tensors: dict[str, Tensor] = {}
    for name in names.values():
        value = exported.state_dict.get(name)
        if value is None:  # a buffer that state_dict leaves out (persistent=False)
            value = exported.constants[name]
        tensors[name] = value
    for name in constants.values():
        tensors[name] = exported.constants[name]
    names.update(constants)

    graph = fx.Graph()
    new: dict[fx.Node, Any] = {}
    for node in exported.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            if not node.users:
                continue
            made = graph.create_node("get_attr", names[node.name], name=node.name)
        elif node.op == "placeholder":
            made = graph.placeholder(node.name)
            made.meta["dtype"] = getattr(node.meta.get("val"), "dtype", None)
        elif node.op == "output":
            graph.output(tuple(fx.node.map_arg(a, new.__getitem__) for a in node.args[0]))
            continue
        elif any(word in str(node.target) for word in _ASSERTIONS):
            continue
        else:
            made = graph.node_copy(node, new.__getitem__)
            made.meta = {}
        new[node] = made
        made.meta["shape"] = _shape(node.meta.get("val"), batch)
        made.meta["path"] = _path(node)
        replaced = _functional(made)
        if replaced is not None:
            for earlier in [old for old, current in new.items() if current is replaced]:
                new[earlier] = made
        _one_split(made)
    separate(graph)
    _drop_dead(graph)
    return Program(graph, tensors, exported.call_spec.in_spec, exported.call_spec.out_spec, batch)


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


def _functional(node: fx.Node) -> fx.Node | None:
    """Turn ``op_(x, ...)`` into ``op(x, ...)``; returns x: its later readers read the result.

    Left alone where x is a view of a tensor that is read elsewhere: writing to it writes there too.
    """
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return None
    name = target._schema.name.removeprefix("aten::")
    if not name.endswith("_") or name.endswith("__") or not hasattr(torch.ops.aten, name[:-1]):
        return None
    written = node.args[0]
    if not isinstance(written, fx.Node):
        return None
    packet = getattr(torch.ops.aten, name[:-1])
    if target._overloadname not in packet.overloads() or _is_shared_view(written):
        return None
    node.target = getattr(packet, target._overloadname)
    return written


_VIEWS = {
    "view", "reshape", "slice", "select", "transpose", "permute", "unsqueeze", "squeeze",
    "flatten", "expand", "unbind", "split_with_sizes", "chunk", "split", "alias", "unflatten",
}  # fmt: skip


def _is_shared_view(node: fx.Node) -> bool:
    while node.op == "call_function":
        if node.target is not operator.getitem and operator_name(node) not in _VIEWS:
            return False
        base = node.args[0]
        if not isinstance(base, fx.Node):
            return False
        if len(base.users) > 1:
            return True
        node = base
    return True  # a view of an input or of a parameter


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


def _drop_dead(graph: fx.Graph) -> None:
    """Remove what nothing reads (in-place writes that stayed are kept)."""
    for node in reversed(list(graph.nodes)):
        if node.users or node.op in ("placeholder", "output"):
            continue
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            continue
        graph.erase_node(node)
