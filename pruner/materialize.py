"""From a Program to a module: real layers under their original names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.utils import _pytree as pytree

from .layers import build, layer_of, settings
from .program import Program


def materialize(program: Program, name: str = "Network") -> fx.GraphModule:
    """A ``torch.fx.GraphModule`` in eval mode that computes what the Program says.

    Operators that are calls of a ``torch.nn`` layer with tensors of its own become that layer,
    under the name that the tensors had; all else stays a call of the ATen operator. Tensors are
    shared with the Program, not copied.
    """
    root = nn.Module()
    graph = fx.Graph()
    new: dict[fx.Node, fx.Node] = {}
    layers: dict[str, nn.Module] = {}
    for node in program.graph.nodes:
        target = _as_layer(node, program.tensors, layers)
        if target is None:
            made = graph.node_copy(node, new.__getitem__)
            made.meta = {}
        else:
            prefix, inputs = target
            made = graph.create_node(
                "call_module", prefix, tuple(new[i] for i in inputs), {}, name=node.name
            )
        new[node] = made
    for path in sorted(layers):
        put_module(root, path, layers[path])
    for path, tensor in program.tensors.items():
        put_tensor(root, path, tensor)
    for module in layers.values():
        fill_counters(module)
    for node in reversed(list(graph.nodes)):
        if node.op == "get_attr" and not node.users:
            graph.erase_node(node)
    nest(graph, program.in_spec, program.out_spec)
    result = fx.GraphModule(root, graph, class_name=name)
    return result.eval()


def _as_layer(
    node: fx.Node, tensors: Mapping[str, Tensor], layers: dict[str, nn.Module]
) -> tuple[str, tuple[fx.Node, ...]] | None:
    made = layer_of(node, tensors)
    if made is None:
        return None
    kind, values, leaves, inputs = made
    prefixes = set()
    for leaf, source in leaves.items():
        if source is None:
            continue
        if not isinstance(source, fx.Node) or source.op != "get_attr":
            return None
        prefix, _, last = str(source.target).rpartition(".")
        if last != leaf:
            return None
        prefixes.add(prefix)
    if not leaves:  # a layer without tensors is called after its module, or after its node
        prefixes = {_free_name(node, layers)}
    if len(prefixes) != 1 or not (prefix := prefixes.pop()):
        return None
    known = layers.get(prefix)
    if known is None:
        layers[prefix] = build(kind, values)
    elif type(known) is not kind or settings(known) != values:
        return None
    return prefix, inputs


def _free_name(node: fx.Node, layers: Mapping[str, nn.Module]) -> str:
    path = node.meta.get("path", "")
    if path and path not in layers:
        return str(path)
    return f"{path}.{node.name}" if path else node.name


def put_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Hang a module under its dotted name, making the containers on the way."""
    parent, last = _parent(root, path)
    held = parent._modules.get(last)
    if held is not None:  # a container that was made for what lies below: move its children over
        for name, child in held._modules.items():
            module.add_module(name, child)
    parent.add_module(last, module)


def put_tensor(root: nn.Module, path: str, tensor: Tensor) -> None:
    """Register a parameter or buffer under its dotted name, in place of the one there."""
    parent, last = _parent(root, path)
    parent._parameters.pop(last, None)
    parent._buffers.pop(last, None)
    if isinstance(tensor, nn.Parameter):
        parent.register_parameter(last, tensor)
    else:
        parent.register_buffer(last, tensor)


def _parent(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    *containers, last = path.split(".")
    for name in containers:
        child = root._modules.get(name)
        if child is None:
            child = nn.Module()
            root.add_module(name, child)
        root = child
    return root, last


def fill_counters(module: nn.Module) -> None:
    """Batch norm's own counter may have no tensor in the graph; nothing else may be missing."""
    for name, buffer in list(module._buffers.items()):
        if buffer is not None and buffer.is_meta:
            module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)


def nest(graph: fx.Graph, in_spec: pytree.TreeSpec, out_spec: pytree.TreeSpec) -> None:
    """Let the module take and return arguments nested as the model's were."""
    flat: list[Any] = [node.name for node in graph.nodes if node.op == "placeholder"]
    output = next(node for node in graph.nodes if node.op == "output")
    plain_in = in_spec == pytree.tree_structure(((0,) * len(flat), {}))
    plain_out = out_spec == pytree.tree_structure(0)
    if plain_in and plain_out:
        output.args = (output.args[0][0],)
        return
    info = _PyTreeInfo(_argument_names(in_spec, flat), in_spec, out_spec)
    graph.set_codegen(_PyTreeCodeGen(info))


def children(spec: pytree.TreeSpec) -> list[pytree.TreeSpec]:
    """The specs one level down (torch renamed the accessor)."""
    method = getattr(spec, "children", None)
    return list(method() if callable(method) else spec.children_specs)


def _argument_names(in_spec: pytree.TreeSpec, flat: list[str]) -> list[str]:
    """One name for each argument of forward, positional ones first."""
    args, kwargs = children(in_spec)
    names, taken = [], 0
    for position, child in enumerate(children(args)):
        names.append(flat[taken] if child.num_leaves == 1 else f"argument_{position}")
        taken += child.num_leaves
    return [*names, *map(str, kwargs.context or [])]
