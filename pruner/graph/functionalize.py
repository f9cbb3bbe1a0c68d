"""Graphs without in-place writes and without graphs inside them.

Most in-place operators write a tensor that nobody else looks at; they are simply replaced by their
functional twins. Where a write is seen through another view, and where a graph calls another
(blocks under ``torch.no_grad`` or ``autocast``), torch's own functionalization traces the graph
once more.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, fx

from .ops import operator_arguments, operator_name

_LIBRARY = torch.library.Library("msprune", "FRAGMENT")
_DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
_END = 2**63 - 1


def _stand_in(name: str) -> tuple[Any, Any]:
    """An operator, and one of the same arguments that torch cannot take apart."""
    original = getattr(torch.ops.aten, name).default
    signature = str(original._schema).partition("(")[2]
    _LIBRARY.define(f"whole_{name}({signature}", tags=())

    def call(x: Tensor, *rest: Any, **named: Any) -> Tensor:
        return torch.empty_like(x)

    _LIBRARY.impl(f"whole_{name}", call, "CompositeExplicitAutograd")
    return original, getattr(torch.ops.msprune, f"whole_{name}").default


_WHOLE = dict(_stand_in(name) for name in ("batch_norm", *_DROPOUTS))


def functionalize(exported: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same program, in which every in-place operator that is left has a functional twin."""
    inputs = set(exported.graph_signature.user_inputs)
    if not _is_tangled(exported.graph, inputs):
        return exported
    for module in exported.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            _replace(module.graph, _WHOLE)
            module.recompile()
    exported = exported.run_decompositions({})
    _replace(exported.graph, {whole: original for original, whole in _WHOLE.items()})
    return exported


def _replace(graph: fx.Graph, targets: dict[Any, Any]) -> None:
    for node in graph.nodes:
        if node.op == "call_function" and node.target in targets:
            node.target = targets[node.target]


def _is_tangled(graph: fx.Graph, inputs: set[str]) -> bool:
    """Whether some write is seen through another view, has no functional twin, or lies deeper."""
    position = {node: i for i, node in enumerate(graph.nodes)}
    families: dict[fx.Node, list[fx.Node]] = defaultdict(list)
    for node in graph.nodes:
        families[root(node)].append(node)
    for node in graph.nodes:
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return True
        if not is_mutable(node):
            continue
        base = root(node)
        if base.op == "placeholder" and base.name not in inputs:
            continue  # a buffer: writing to it is what is meant
        if base.op == "placeholder" or twin(node.target) is None:
            return True
        variable, now = _variable(node), position[node]
        for other in families[base]:
            if position[other] >= now or _variable(other) is variable:
                continue
            if any(position[user] > now for user in other.users):
                return True
    return False


def is_mutable(node: fx.Node) -> bool:
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def root(node: fx.Node) -> fx.Node:
    """The node whose memory this node's result may share."""
    while _is_view(node) or is_mutable(node):
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node):
            break
        node = source
    return node


def _variable(node: fx.Node) -> fx.Node:
    """A tensor and the results of writing to it are one variable."""
    while is_mutable(node) and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _is_view(node: fx.Node) -> bool:
    if node.target is operator.getitem:
        return isinstance(node.args[0], fx.Node) and _is_view(node.args[0])
    if node.op != "call_function" or operator_name(node) in _DROPOUTS:
        return node.op == "call_function"
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(
        value.alias_info is not None and not value.alias_info.is_write for value in schema.returns
    )


def twin(target: Any) -> Any:
    """``aten.relu`` for ``aten.relu_``: the functional operator of the same arguments, or None."""
    if not isinstance(target, torch._ops.OpOverload):
        return None
    name = target._schema.name.removeprefix("aten::")
    packet = getattr(torch.ops.aten, name[:-1], None)
    if not name.endswith("_") or name.endswith("__") or packet is None:
        return None
    wanted = [str(a.type) for a in target._schema.arguments]
    names = [target._overloadname, *packet.overloads()]
    for overload in (getattr(packet, n) for n in names if n in packet.overloads()):
        schema = overload._schema
        if not schema.is_mutable and [str(a.type) for a in schema.arguments] == wanted:
            return overload
    return None


def positional(node: fx.Node) -> tuple[Any, ...]:
    """The node's arguments with the defaults of those left out."""
    given = operator_arguments(node)
    schema = node.target._schema  # type: ignore[union-attr]
    return tuple(given[a.name] for a in schema.arguments if not a.kwarg_only)


def simplified(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """The node in a plainer form, if there is one.

    A write to a slice is a concatenation of what stays and what is written: channels that are
    written and channels that stay are then parts of one axis. A slice of all is what it slices.
    """
    name = operator_name(node)
    if name == "copy":
        return _copied(graph, node)
    if name == "slice":
        source = node.args[0]
        assert isinstance(source, fx.Node)
        return source if tuple(node.args[2:]) in ((), (0, _END), (0, _END, 1)) else node
    if name not in ("slice_scatter", "select_scatter"):
        return node
    whole, part, dim, start, end = _region(node, name)
    size = whole.meta["shape"][dim]
    if (start, end) == (0, size) and name == "slice_scatter":
        return part
    if dim == 0 or start is None:
        return node
    path, rank = node.meta["path"], len(whole.meta["shape"])

    def call(target: Any, args: tuple[Any, ...], length: int) -> fx.Node:
        made = graph.call_function(target, args)
        shape = whole.meta["shape"]
        made.meta.update(shape=(*shape[:dim], length, *shape[dim + 1 :]), path=path)
        return made

    aten = torch.ops.aten
    if len(part.meta["shape"]) < rank:
        part = call(aten.unsqueeze.default, (part, dim), 1)
    parts = [part]
    if start > 0:
        parts.insert(0, call(aten.slice.Tensor, (whole, dim, 0, start), start))
    if end < size:
        parts.append(call(aten.slice.Tensor, (whole, dim, end, _END), size - end))
    return call(aten.cat.default, (parts, dim), size)


def _copied(graph: fx.Graph, node: fx.Node) -> fx.Node:
    target, source = node.args[:2]
    assert isinstance(target, fx.Node) and isinstance(source, fx.Node)
    if target.meta["dtype"] != source.meta["dtype"]:
        made = graph.call_function(
            torch.ops.aten._to_copy.default, (source,), {"dtype": target.meta["dtype"]}
        )
        made.meta.update(source.meta, dtype=target.meta["dtype"], path=node.meta["path"])
        source = made
    if source.meta["shape"] != target.meta["shape"]:
        made = graph.call_function(torch.ops.aten.expand_as.default, (source, target))
        made.meta.update(node.meta)
        source = made
    return source


def _region(node: fx.Node, name: str) -> tuple[fx.Node, fx.Node, int, Any, Any]:
    """What is written to, what is written, along which axis, from where to where."""
    args = operator_arguments(node)
    whole, part = args["self"], args["src"]
    shape = whole.meta["shape"]
    dim = args["dim"] % len(shape)
    place = [args["index"]] if name == "select_scatter" else [args["start"], args["end"]]
    if args.get("step", 1) != 1 or any(isinstance(number, fx.Node) for number in place):
        return whole, part, dim, None, None
    if name == "select_scatter":
        start = args["index"] % shape[dim]
        return whole, part, dim, start, start + 1
    start, end, _ = slice(*place).indices(shape[dim])
    return whole, part, dim, start, end
