"""From a Program to a module: real layers under their original names."""

import operator
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from .device_pass import follow_input_device
from .input_sizes import InputSize
from .input_values import InputValues
from .layer_matching import match_layer
from .layer_registry import build_layer, layer_settings
from .name_escapes import restore_names
from .ops import operator_arguments, operator_name, producer_of, remove_dead_nodes
from .program import Program, named_tensors
from .rebuilt_module import LayerGroup, RebuiltModule, order_tensors
from .torch_internals import child_modules, forget_tensor, set_io_nesting, spec_children
from .type_pass import follow_data_type


def materialize(program: Program, name: str = "Network") -> fx.GraphModule:
    """Make a ``torch.fx.GraphModule`` in evaluation mode that computes what the Program says.

    Operators that are calls of a ``torch.nn`` layer with tensors of its own become that layer,
    under the name that the tensors had; all else stays a call of the ATen operator. Tensors are
    shared with the Program, not copied.
    """
    root = nn.Module()
    graph = fx.Graph()
    new: dict[fx.Node, fx.Node] = {}
    layers: dict[str, nn.Module] = {}
    names = _ModuleNames(program)
    devices = {tensor.device.type for tensor in program.tensors.values()}
    last = [node for node in program.graph.nodes if node.op == "placeholder"][-1:]
    for node in program.graph.nodes:
        if _is_idle_cast(node, devices):
            new[node] = new[producer_of(node)]
            continue
        target = _build_call(node, program.tensors, layers, names)
        if target is None:
            made = graph.node_copy(node, new.__getitem__)
            made.meta = {}
        else:
            prefix, inputs = target
            inputs = fx.node.map_arg(inputs, new.__getitem__)
            made = graph.create_node("call_module", prefix, inputs, {}, name=node.name)
        if operator_name(node) == "getitem" and _is_lstm(new[producer_of(node)], layers):
            made = _unpack_state(graph, made)
        new[node] = made
        if node in last:
            _check_inputs(graph, program, new, layers, names)
    for path in sorted(layers):
        put_module(root, path, layers[path])
    for path, tensor in program.tensors.items():
        put_tensor(root, path, tensor, path not in program.transient)
    tied = {path: program.tensors[kept] for path, kept in program.tied.items()
            if kept in program.tensors}  # fmt: skip
    for path, tensor in tied.items():
        put_tensor(root, path, tensor)
    for module in layers.values():  # counters of batch norms alone may have no tensor in the graph
        for counter, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                setattr(module, counter, torch.zeros(buffer.shape, dtype=buffer.dtype))
    _follow_device(graph, program, new)
    follow_data_type(graph, program, new)
    remove_dead_nodes(graph, keep=lambda node: node.op != "get_attr")
    _nest_io(graph, program.in_spec, program.out_spec)
    result = RebuiltModule(root, graph, name)
    # second names of layers, and tensors beside those that the graph reads
    share_layers(result, _find_second_names(layers, program))
    put_missing_tensors(result, {**program.tensors, **tied}, program.transient)
    order_tensors(result, program.tensors)
    restore_names(result, program.renamed)
    return result.eval()


def _check_inputs(
    graph: fx.Graph,
    program: Program,
    new: dict[fx.Node, fx.Node],
    layers: dict[str, nn.Module],
    names: "_ModuleNames",
) -> None:
    """Let inputs pass through layers that refuse sizes and values that the graph is not for."""
    inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
    for node in inputs:
        if node.name in program.sizes:
            path = names.choose_unused(f"{node.name}_size")
            layers[path] = InputSize(program.sizes[node.name])
            new[node] = graph.call_module(path, (new[node],))
    held = [node for node in inputs if node.name in program.values]
    first = next((node for node in inputs if node.meta.get("shape") is not None), None)
    if held and first is not None:
        path = names.choose_unused(f"{first.name}_values")
        layers[path] = InputValues(
            [node.name for node in held], [program.values[node.name] for node in held]
        )
        new[first] = graph.call_module(path, (new[first], *(new[node] for node in held)))


def _follow_device(graph: fx.Graph, program: Program, new: Mapping[fx.Node, fx.Node]) -> None:
    """Let what the graph makes be made where the first tensor of its input is."""
    takes_tensor = (
        new[node]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.meta.get("shape") is not None
    )
    traced_on = {tensor.device for tensor in program.tensors.values()}
    follow_input_device(graph, next(takes_tensor, None), traced_on)


def _find_second_names(layers: Mapping[str, nn.Module], program: Program) -> dict[str, nn.Module]:
    """Return the layers that are held several times by their other names.

    All tensors of the layer that are read go by that name too, and no layer is called there.
    """
    read = {str(node.target) for node in program.graph.nodes if node.op == "get_attr"}
    names: dict[str, list[str]] = defaultdict(list)
    for name in program.tensors:
        names[name].append(name)
    for name, kept in program.tied.items():
        names[kept].append(name)
    found = {}
    for path, layer in layers.items():
        owners: list[set[str]] = []
        for leaf, _ in (*layer.named_parameters(), *layer.named_buffers()):
            kept = program.tied.get(f"{path}.{leaf}", f"{path}.{leaf}")
            if kept not in read:
                continue
            parts = (name.rpartition(".") for name in names.get(kept, ()))
            owners.append({owner for owner, _, last in parts if last == leaf})
        for other in sorted(set.intersection(*owners) if owners else ()):
            if other not in layers and other:
                found[other] = layer
    return found


def share_layers(root: nn.Module, second_names: Mapping[str, nn.Module]) -> None:
    """Hang layers under second names, where nothing but a container without children is."""
    for path, layer in second_names.items():
        parent, last = _make_parent(root, path)
        held = child_modules(parent).get(last)
        if held is None or not child_modules(held):
            child_modules(parent)[last] = layer


def put_missing_tensors(
    root: nn.Module, tensors: Mapping[str, Tensor], transient: Collection[str]
) -> None:
    """Register tensors under their names where these hold others or none; see `put_tensor`."""
    held = named_tensors(root, tied=True)
    for path, tensor in tensors.items():
        if held.get(path) is not tensor:
            put_tensor(root, path, tensor, path not in transient)


class _ModuleNames:
    """Finds the module that a tensor, or an operator without tensors, belongs to."""

    def __init__(self, program: Program) -> None:
        self.others: dict[str, list[str]] = defaultdict(list)
        for name, kept in program.tied.items():
            self.others[kept].append(name)
        self.first: dict[Any, str] = {}
        paths = [str(node.meta.get("path", "")) for node in program.graph.nodes]
        self.calls = Counter(paths)
        self.held = {
            prefix
            for name in (*program.tensors, *program.tied, *(f"{path}." for path in set(paths)))
            for prefix in accumulate(name.split(".")[:-1], "{}.{}".format)
            if name != f"{prefix}."
        }

    def find_owner(self, source: fx.Node, leaf: str, path: str) -> str | None:
        """Find the module in which this tensor is the leaf; of several the one at path."""
        names = [str(source.target), *self.others[str(source.target)]]
        owners = [owner for owner, _, last in (n.rpartition(".") for n in names) if last == leaf]
        return path if path in owners else owners[0] if owners else None

    def find_first(self, path: str, kind: type[nn.Module], leaves: Mapping[str, Any]) -> str:
        """Return the name that a layer of this class and these tensors was first called by."""
        tensors = tuple((leaf, source and str(source.target)) for leaf, source in leaves.items())
        return self.first.setdefault((kind, tensors), path)

    def choose_unused(self, path: str) -> str:
        """Return the path, changed where a module or tensor goes by it."""
        taken = {name.partition(".")[0] for name in (*self.held, *self.calls)}
        return path if path not in taken else self.choose_unused(f"{path}_")

    def choose(self, node: fx.Node) -> str:
        """Return the operator's module where that holds nothing else, or a new name within it."""
        path = str(node.meta.get("path", ""))
        if path and self.calls[path] == 1 and path not in self.held:
            return path
        return f"{path}.{node.name}" if path else node.name


def _build_call(
    node: fx.Node, tensors: Mapping[str, Tensor], layers: dict[str, nn.Module], names: _ModuleNames
) -> tuple[str, tuple[Any, ...]] | None:
    """Build the layer that a node calls, or find it; return its name and inputs, None: no layer."""
    made = match_layer(node, tensors)
    if made is None:
        return None
    kind, values, leaves, inputs = made
    prefixes: set[str | None] = set()
    for leaf, source in leaves.items():
        if source is None:
            continue
        if not isinstance(source, fx.Node) or source.op != "get_attr":
            return None
        prefixes.add(names.find_owner(source, leaf, str(node.meta.get("path"))))
    if not leaves:
        prefixes = {names.choose(node)}
    if len(prefixes) != 1 or not (prefix := prefixes.pop()):
        return None
    if leaves:  # a layer that is held, and called, under several names is one layer
        prefix = names.find_first(prefix, kind, leaves)
    known = layers.get(prefix)
    if known is None:
        layer = build_layer(kind, values)
        state = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
        if any(state[x].shape != tensors[str(s.target)].shape for x, s in leaves.items() if s):
            return None  # parts of it were cut in ways that the layer cannot take
        layers[prefix] = layer
    elif type(known) is not kind or layer_settings(known) != values:
        return None
    return prefix, inputs


def _is_idle_cast(node: fx.Node, devices: Collection[str]) -> bool:
    """Whether a node casts floating-point numbers to the type that they have.

    The type is one that the network was traced in, and would be wrong after ``half()``.
    The network lies on devices of these types.
    """
    if operator_name(node) not in ("to", "_to_copy", "type_as") or node.op != "call_function":
        return False
    kind, given = node.meta.get("dtype"), operator_arguments(node)
    if kind is None or not kind.is_floating_point or kind != producer_of(node).meta.get("dtype"):
        return False
    device, layout = given.get("device"), given.get("layout")
    moves = device is not None and torch.device(device).type not in devices
    return not moves and layout in (None, torch.strided) and given.get("memory_format") is None


def _is_lstm(node: fx.Node, layers: Mapping[str, nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(layers[str(node.target)], nn.LSTM)


def _unpack_state(graph: fx.Graph, item: fx.Node) -> fx.Node:
    """Unpack an item of an LSTM: the operator returns (y, h, c), the layer (y, (h, c))."""
    layer, index = item.args
    if index == 0:
        return item
    item.args = (layer, 1)
    return graph.call_function(operator.getitem, (item, int(index) - 1))  # type: ignore[arg-type]


def put_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Hang a module under its dotted name, making the containers on the way."""
    parent, last = _make_parent(root, path)
    held = child_modules(parent).get(last)
    if held is not None:  # a container that was made for what lies below: move its children over
        for name, child in child_modules(held).items():
            module.add_module(name, child)
    parent.add_module(last, module)


def put_tensor(root: nn.Module, path: str, tensor: Tensor, persistent: bool = True) -> None:
    """Register a parameter or buffer under its dotted name, in place of the one there."""
    parent, last = _make_parent(root, path)
    forget_tensor(parent, last)
    if isinstance(parent, nn.RNNBase):
        setattr(parent, last, tensor)  # which keeps its list of flat weights up to date
    elif isinstance(tensor, nn.Parameter):
        parent.register_parameter(last, tensor)
    else:
        parent.register_buffer(last, tensor, persistent)


def _make_parent(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    *containers, last = path.split(".")
    for name in containers:
        if child_modules(root).get(name) is None:
            root.add_module(name, LayerGroup())
        root = child_modules(root)[name]
    return root, last


def _nest_io(graph: fx.Graph, in_spec: pytree.TreeSpec, out_spec: pytree.TreeSpec) -> None:
    """Let the module take and return arguments nested as the model's were."""
    flat: list[Any] = [node.name for node in graph.nodes if node.op == "placeholder"]
    output = next(node for node in graph.nodes if node.op == "output")
    plain_in = in_spec == pytree.tree_structure(((0,) * len(flat), {}))
    if plain_in and out_spec == pytree.tree_structure(0):
        output.args = (output.args[0][0],)
        return
    args, kwargs = spec_children(in_spec)
    names, taken = [], 0
    for position, child in enumerate(spec_children(args)):
        names.append(flat[taken] if child.num_leaves == 1 else f"argument_{position}")
        taken += child.num_leaves
    set_io_nesting(graph, [*names, *map(str, kwargs.context or [])], in_spec, out_spec)
