"""Graphs without in-place writes, without graphs inside them, without composite operators unknown.

Most in-place operators write a tensor that nobody else looks at; they are simply replaced by their
functional twins. Where a write is seen through another view, it is scattered into what is viewed;
where that is not plain, and where a graph calls another (blocks under ``torch.no_grad`` or
``autocast``), torch's own functionalization traces the graph once more. So it does where the caller
does not know an operator that torch can take apart.
"""

import contextlib
import operator
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from .decompositions import find_decompositions
from .ops import DROPOUTS, is_mutable, operator_arguments, operator_name, producer_of, target_name
from .torch_internals import HigherOrderOperator, is_operator, operator_schema
from .weight_scales import WHOLE
from .write_propagation import propagate_writes

_LIBRARY = torch.library.Library("msprune", "FRAGMENT")
_END = 2**63 - 1
_REWRITTEN = (
    "chunk", "copy", "select_scatter", "slice_scatter", "split", "unsafe_chunk", "unsafe_split",
)  # fmt: skip
"""Operators that the canonical form of a graph says in plainer ones."""


def _define_opaque(name: str) -> tuple[Any, Any]:
    """Return an operator, and one of the same arguments that torch does not decompose."""
    original = getattr(torch.ops.aten, name).default
    signature = str(operator_schema(original)).partition("(")[2]
    _LIBRARY.define(f"whole_{name}({signature}", tags=())

    def call(x: Tensor, *rest: Any, **named: Any) -> Tensor:
        return torch.empty_like(x)

    _LIBRARY.impl(f"whole_{name}", call, "CompositeExplicitAutograd")
    return original, getattr(torch.ops.msprune, f"whole_{name}").default


_OPAQUE = dict(_define_opaque(name) for name in ("batch_norm", *DROPOUTS))


def functionalize(
    exported: torch.export.ExportedProgram, is_known: Callable[[Any], bool]
) -> tuple[torch.export.ExportedProgram, fx.Graph]:
    """Return a program, and its graph so that every operator left in-place has a functional twin.

    Operators that are not known are taken apart as far as torch can. The given ones are returned
    where they are such already, else they are left as they were.
    """
    tried: set[Any] = set()

    def is_kept(target: Any) -> bool:
        name = target_name(target).removesuffix("_")
        return name in (*_REWRITTEN, *WHOLE) or is_known(target)

    inputs, nodes = set(exported.graph_signature.user_inputs), exported.graph.nodes
    deeper = any(isinstance(node.target, HigherOrderOperator) for node in nodes)
    hidden = deeper or _has_hidden_writes(exported.graph, inputs)
    if hidden and not deeper and not find_decompositions(_walk_targets(exported), is_kept, set()):
        held = {node.name for node in nodes if node.op == "placeholder"} - inputs
        graph = propagate_writes(exported.graph, held, find_functional_overload)
        if graph is not None:
            return exported, graph
    if hidden:
        exported = _trace_again(exported, {})
    while table := find_decompositions(_walk_targets(exported), is_kept, tried):
        tried.update(table)
        try:
            exported = _trace_again(exported, table)
        except Exception:  # whatever a decomposition raises of arguments that it cannot take
            for operator_, decompose in table.items():
                with contextlib.suppress(Exception):
                    exported = _trace_again(exported, {operator_: decompose})
    return exported, exported.graph


def _walk_targets(exported: torch.export.ExportedProgram) -> Iterator[Any]:
    """Yield what the graph of a program calls."""
    return (node.target for node in exported.graph.nodes if node.op == "call_function")


def _trace_again(
    exported: torch.export.ExportedProgram, table: dict[Any, Callable[..., Any]]
) -> torch.export.ExportedProgram:
    """Return a program traced through torch's functionalization, with operators taken apart."""
    transparent = {opaque: original for original, opaque in _OPAQUE.items()}
    modules = [m for m in exported.graph_module.modules() if isinstance(m, fx.GraphModule)]
    try:
        for module in modules:
            _replace_targets(module.graph, _OPAQUE)
            module.recompile()
        traced = exported.run_decompositions(table)
    finally:
        for module in modules:
            _replace_targets(module.graph, transparent)
            module.recompile()
    _replace_targets(traced.graph, transparent)
    return traced


def _replace_targets(graph: fx.Graph, targets: Mapping[Any, Any]) -> None:
    for node in graph.nodes:
        if node.op == "call_function" and node.target in targets:
            node.target = targets[node.target]


def _has_hidden_writes(graph: fx.Graph, inputs: set[str]) -> bool:
    """Whether some write is seen through another view, or has no functional twin."""
    position = {node: i for i, node in enumerate(graph.nodes)}
    families: dict[fx.Node, list[fx.Node]] = defaultdict(list)
    for node in graph.nodes:
        families[find_memory_owner(node)].append(node)
    for node in graph.nodes:
        if not is_mutable(node):
            continue
        base = find_memory_owner(node)
        if base.op == "placeholder" and base.name not in inputs:
            continue  # a buffer: writing to it is what is meant
        if base.op == "placeholder" or find_functional_overload(node.target) is None:
            return True
        variable, now = _find_variable(node), position[node]
        for other in families[base]:
            if position[other] >= now or _find_variable(other) is variable:
                continue
            if any(position[user] > now for user in other.users):
                return True
    return False


def find_memory_owner(node: fx.Node) -> fx.Node:
    """Find the node whose memory this node's result may share."""
    while _is_view(node) or is_mutable(node):
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node):
            break
        node = source
    return node


def _find_variable(node: fx.Node) -> fx.Node:
    """Find the first of a tensor and the results of writing to it, which are one variable."""
    while is_mutable(node) and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _is_view(node: fx.Node) -> bool:
    if node.target is operator.getitem:
        return isinstance(node.args[0], fx.Node) and _is_view(node.args[0])
    if node.op != "call_function" or operator_name(node) in DROPOUTS:
        return node.op == "call_function"
    schema = operator_schema(node.target)
    return schema is not None and any(
        value.alias_info is not None and not value.alias_info.is_write for value in schema.returns
    )


def find_functional_overload(target: Any) -> Any:
    """Find ``aten.relu`` for ``aten.relu_``, the operator that writes nothing; None: none."""
    if not is_operator(target):
        return None
    name = operator_schema(target).name.removeprefix("aten::")
    packet = getattr(torch.ops.aten, name[:-1], None)
    if not name.endswith("_") or name.endswith("__") or packet is None:
        return None
    wanted = [str(a.type) for a in operator_schema(target).arguments]
    names = [operator_schema(target).overload_name, *packet.overloads()]
    for overload in (getattr(packet, n) for n in names if n in packet.overloads()):
        schema = operator_schema(overload)
        if not schema.is_mutable and [str(a.type) for a in schema.arguments] == wanted:
            return overload
    return None


def fill_positional_arguments(node: fx.Node) -> tuple[Any, ...]:
    """Return the node's positional arguments with the defaults of those left out."""
    given = operator_arguments(node)
    return tuple(given[a.name] for a in operator_schema(node.target).arguments if not a.kwarg_only)


def simplify_writes(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """Return a copy, slice or write to a slice in a plainer form, if there is one.

    A write to a slice is a concatenation of what stays and what is written: channels that are
    written and channels that stay are then parts of one axis. A slice of all is what it slices.
    """
    name = operator_name(node)
    if name == "copy":
        return _simplify_copy(graph, node)
    if name == "slice":
        return producer_of(node) if tuple(node.args[2:]) in ((), (0, _END), (0, _END, 1)) else node
    if name not in ("slice_scatter", "select_scatter"):
        return node
    whole, part, dim, start, end = _find_write(node, name)
    shape, path = whole.meta["shape"], node.meta["path"]
    size = shape[dim]
    if (start, end) == (0, size) and name == "slice_scatter":
        return part
    if dim == 0 or start is None:
        return node

    def call(target: Any, args: tuple[Any, ...], length: int) -> fx.Node:
        made = graph.call_function(target, args)
        made.meta.update(shape=(*shape[:dim], length, *shape[dim + 1 :]), path=path,
                         dtype=whole.meta.get("dtype"))  # fmt: skip
        return made

    aten = torch.ops.aten
    if len(part.meta["shape"]) < len(shape):
        part = call(aten.unsqueeze.default, (part, dim), 1)
    parts = [part]
    if start > 0:
        parts.insert(0, call(aten.slice.Tensor, (whole, dim, 0, start), start))
    if end < size:
        parts.append(call(aten.slice.Tensor, (whole, dim, end, _END), size - end))
    return call(aten.cat.default, (parts, dim), size)


def _simplify_copy(graph: fx.Graph, node: fx.Node) -> fx.Node:
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


def _find_write(node: fx.Node, name: str) -> tuple[fx.Node, fx.Node, int, Any, Any]:
    """Return what is written to, what is written, along which axis, from where to where."""
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
