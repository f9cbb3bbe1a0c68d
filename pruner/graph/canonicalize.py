"""An exported program in one canonical form.

Tensors are ``get_attr`` nodes under their ``state_dict`` names, in-place operators are functional,
the several ways to split a tensor are one, and assertions are gone.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import OutputKind

from ..errors import TraceError
from .functionalize import (
    fill_positional_arguments,
    find_functional_overload,
    find_memory_owner,
    functionalize,
    simplify_writes,
)
from .ops import is_mutable, operator_name, producer_of, remove_dead_nodes
from .program import Program, group_tied_names

SPLITS = ("chunk", "split", "unsafe_chunk", "unsafe_split")
_ASSERTIONS = (
    "_assert_async", "_assert_scalar", "_assert_tensor_metadata", "_functional_assert_async",
    "sym_constrain_range", "sym_constrain_range_for_size", "_functional_sym_constrain_range",
    "_functional_sym_constrain_range_for_size",
)  # fmt: skip
_VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)


def canonicalize(
    exported: torch.export.ExportedProgram,
    batch: int,
    model: nn.Module,
    is_known: Callable[[Any], bool],
) -> Program:
    """Return an exported program in canonical form, in a graph of its own.

    The number ``batch`` stands for the dynamic batch; the model tells the names of tied tensors;
    operators that are not known are taken apart as far as torch can.
    A graph that needs objects which are no tensors is a TraceError.
    """
    _refuse_objects(exported, model)
    exported, functional = functionalize(exported, is_known)
    names, tensors, transient = _read_tensors(exported)
    graph, new = fx.Graph(), dict[fx.Node, fx.Node]()
    holders: dict[fx.Node, list[fx.Node]] = defaultdict(list)  # the inverse of new

    def put(node: fx.Node, made: fx.Node) -> None:
        new[node] = made
        holders[made].append(node)

    for node in functional.nodes:
        if node.op == "placeholder" and node.name in names:
            if not node.users:
                continue
            made = graph.create_node("get_attr", names[node.name], name=node.name)
        elif node.op == "placeholder":
            made = graph.placeholder(node.name)
        elif node.op == "output":
            _put_output(graph, exported, fx.node.map_arg(node.args[0], new.__getitem__))
            continue
        elif operator_name(node) in _ASSERTIONS:
            continue
        else:
            made = graph.node_copy(node, new.__getitem__)
        value = node.meta.get("val")
        made.meta = {"shape": _plain_shape(value, batch), "path": _module_path(node),
                     "dtype": getattr(value, "dtype", None)}  # fmt: skip
        if is_mutable(made) and find_memory_owner(made).op == "call_function":
            written = producer_of(made)
            made.args = fill_positional_arguments(made)  # the twin may have other defaults
            made.target = find_functional_overload(made.target)
            for earlier in holders.pop(written, []):
                put(earlier, made)
        _unify_split(made, value)
        _ignore_strides(graph, made)
        put(node, simplify_writes(graph, made))
    remove_dead_nodes(graph)
    for node in list(graph.nodes):
        # A token of side effects that are left out.
        if not node.users and node.name in exported.graph_signature.input_tokens:
            graph.erase_node(node)
    used = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    tied = _find_tied(model, used)
    tensors = {name: tensor for name, tensor in tensors.items() if name not in tied}
    spec = exported.call_spec
    return Program(graph, tensors, spec.in_spec, spec.out_spec, batch, tied, transient)


def _ignore_strides(graph: fx.Graph, node: fx.Node) -> None:
    """Let a view be had of any memory, in place: if it can depends on strides, which a cut changes.

    Pairs are viewed as complex numbers where they lie in order.
    """
    if node.target in _VIEWS:
        node.target = torch.ops.aten.reshape.default
    if node.op != "call_function" or operator_name(node) != "view_as_complex":
        return
    source = producer_of(node)
    with graph.inserting_before(node):
        made = graph.call_function(torch.ops.aten.contiguous.default, (source,))
    made.meta = dict(source.meta)
    node.args = (made,)


def _refuse_objects(exported: torch.export.ExportedProgram, model: nn.Module) -> None:
    held = exported.graph_signature.inputs_to_lifted_custom_objs
    if held:
        kinds = {type(exported.constants.get(name)).__name__ for name in held.values()}
        raise TraceError(
            f"{type(model).__name__} makes objects in its forward that no graph holds "
            f"({', '.join(sorted(kinds))}): keep the tensors that they give as buffers instead"
        )


def _read_tensors(
    exported: torch.export.ExportedProgram,
) -> tuple[dict[str, str], dict[str, Tensor], frozenset[str]]:
    """Return names of the graph's placeholders, tensors by these, names not in state_dict."""
    signature = exported.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    # Constants, and buffers that state_dict leaves out (persistent=False), are kept apart.
    held = {**exported.constants, **exported.state_dict}
    transient = frozenset(names.values()).difference(exported.state_dict)
    return names, {name: held[name] for name in names.values()}, transient


def _find_tied(model: nn.Module, used: set[str]) -> dict[str, str]:
    """Find other names of the graph's tensors: of tied weights, and of modules held twice."""
    return {
        name: kept
        for group in group_tied_names(model)
        for kept in [name for name in group if name in used][:1]
        for name in group
        if name not in used
    }


def _put_output(graph: fx.Graph, exported: torch.export.ExportedProgram, values: Any) -> None:
    """Return the results; write the buffers that the network writes, leave its inputs alone."""
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


def _plain_shape(value: Any, batch: int) -> Any:
    """Return integers for a tensor's sizes, a list for several, None for what is no tensor."""
    if isinstance(value, Tensor):
        return tuple(_plain_size(size, batch) for size in value.shape)
    if isinstance(value, list | tuple):
        return [_plain_shape(item, batch) for item in value]
    return None


def _plain_size(size: Any, batch: int) -> int:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs({symbol: batch for symbol in expression.free_symbols}))


def _module_path(node: fx.Node) -> str:
    """Return the dotted name of the innermost module that the operator was called in."""
    stack = [
        entry[0]
        for key, entry in (node.meta.get("nn_module_stack") or {}).items()
        if not str(key).startswith("_empty")
    ]
    return str(stack[-1]) if stack else ""


def _unify_split(node: fx.Node, values: Any) -> None:
    """Make chunk and split split_with_sizes: the sizes of the parts are then plain numbers.

    Left alone are splits of the dynamic batch, whose parts' sizes are no plain numbers.
    """
    if node.op != "call_function" or operator_name(node) not in SPLITS:
        return
    source, dim = node.args[0], node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0)
    assert isinstance(source, fx.Node) and isinstance(dim, int)
    if not all(isinstance(value.shape[dim], int) for value in values):
        return
    sizes = [shape[dim] for shape in node.meta["shape"]]
    node.target = torch.ops.aten.split_with_sizes.default
    node.args, node.kwargs = (source, sizes, dim), {}
