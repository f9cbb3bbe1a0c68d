"""Several Programs in one graph, side by side: the parts of a model that are pruned together.

No node of one part reads one of another, but for tensors that both hold. The joined graph takes one
call a part, each a pair of positional and keyword arguments, and returns what each part does. Nodes
and tensors have the part's path before their names. `GraphPart` runs one part of such a module, and
`detach_part` makes a module of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ..errors import PrunerError, TraceError
from .input_sizes import InputSize
from .materialize import put_missing_tensors, put_module, put_tensor
from .name_escapes import escape_names, rename_by_prefix, renamed_parts, restore_names
from .ops import find_sources
from .program import BATCH_HINT, Program, named_tensors
from .rebuilt_module import RebuiltModule, order_tensors
from .torch_internals import io_nesting, set_io_nesting, spec_children


def join_programs(programs: Mapping[str, Program]) -> Program:
    """Put Programs into one graph, side by side; they are left as they were.

    Args:
        programs: Dotted path -> Program; no path is within another. Tensors that two of them share
            are one in the result.

    Raises:
        TraceError: One of them runs with one batch only.
    """
    graph, new = fx.Graph(), dict[fx.Node, fx.Node]()
    first: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    for path, program in programs.items():
        if program.batch != BATCH_HINT:
            raise TraceError(
                f"{path} runs with a batch of {program.batch} only, as it was traced: prune it by "
                "itself"
            )
        for name, tensor in program.tensors.items():
            kept = first.setdefault(id(tensor), f"{path}.{name}")
            if kept == f"{path}.{name}":
                tensors[kept] = tensor
            else:
                tied[f"{path}.{name}"] = kept
        for name, other in program.tied.items():
            tied[f"{path}.{name}"] = tied.get(f"{path}.{other}", f"{path}.{other}")
    for path, program in programs.items():  # a graph's arguments come first
        _copy_nodes(graph, path, program.graph, new, tied, placeholders=True)
    results: list[Any] = []
    for path, program in programs.items():
        results += _copy_nodes(graph, path, program.graph, new, tied, placeholders=False)
    graph.output(tuple(results))
    joined = Program(
        graph, tensors,
        _nest_specs([p.in_spec for p in programs.values()], arguments=True),
        _nest_specs([p.out_spec for p in programs.values()], arguments=False),
        BATCH_HINT, tied,
        frozenset(f"{path}.{k}" for path, p in programs.items() for k in p.transient),
        {f"{a}.{k}": f"{a}.{v}" for a, p in programs.items() for k, v in p.renamed.items()},
        {_join_name(path, k): v for path, p in programs.items() for k, v in p.sizes.items()},
        notes=tuple(f"{path}: {note}" for path, p in programs.items() for note in p.notes),
    )  # fmt: skip
    return escape_names(joined, joined.renamed)


def _copy_nodes(
    graph: fx.Graph, path: str, source: fx.Graph, new: dict[fx.Node, fx.Node],
    tied: Mapping[str, str], placeholders: bool,
) -> list[Any]:  # fmt: skip
    """Copy a part's placeholders, or all other nodes; return what it returns."""
    for node in source.nodes:
        if (node.op == "placeholder") != placeholders:
            continue
        if node.op == "output":
            return [*fx.node.map_arg(node.args[0], new.__getitem__)]
        target, name = node.target, _join_name(path, node.name)
        if node.op == "get_attr":
            target = tied.get(f"{path}.{target}", f"{path}.{target}")
            known = next(
                (n for n in graph.nodes if n.op == "get_attr" and n.target == target), None
            )
            if known is not None:  # a tensor is read at one place
                new[node] = known
                continue
        elif node.op == "placeholder":
            target = name
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), new.__getitem__)
        made = new[node] = graph.create_node(node.op, target, args, kwargs, name=name)
        made.meta = dict(node.meta)
        inside = node.meta.get("path")
        made.meta["path"] = f"{path}.{inside}" if inside else path
    return []


def _join_name(path: str, name: str) -> str:
    """Return the name of a part's node: ``head_conv2d``."""
    prefix = re.sub(r"\W", "_", path)
    return f"{'part_' if prefix[:1].isdigit() else ''}{prefix}_{name}"


def _nest_specs(specs: list[pytree.TreeSpec], arguments: bool) -> pytree.TreeSpec:
    """Return the spec of a call with one argument a part, or of a tuple of results."""
    each = tuple(pytree.tree_unflatten([0] * spec.num_leaves, spec) for spec in specs)
    return pytree.tree_structure((each, {}) if arguments else each)


class GraphPart(nn.Module):
    """Runs one part of a module that was made of joined Programs, with the module's own tensors."""

    def __init__(self, module: fx.GraphModule, number: int) -> None:
        """Take the module and the part's number."""
        super().__init__()
        self.module, self.number = module, number
        self.training = module.training

    def count_arguments(self) -> int:
        """Count the part's arguments, nested ones taken apart."""
        return _find_specs(self.module, self.number)[0].num_leaves

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the part returns of these arguments; PrunerError for more or fewer."""
        in_spec, out_spec = _find_specs(self.module, self.number)
        leaves = _order_leaves(in_spec, args, kwargs)
        if len(leaves) != in_spec.num_leaves:
            raise PrunerError(
                f"part {self.number} of {type(self.module).__name__} was traced with "
                f"{in_spec.num_leaves} values and is called with {len(leaves)}: trace it with all "
                "arguments that it is called with"
            )
        source = _find_data_leaf(leaves)
        known = _EXTRACTED.setdefault(self.module, {})
        if (self.number, source) not in known:
            known[self.number, source] = extract_part(self.module, self.number, source)
        results = fx.Interpreter(self.module, graph=known[self.number, source]).run(*leaves)
        return pytree.tree_unflatten(list(results), out_spec)


_EXTRACTED: WeakKeyDictionary[fx.GraphModule, dict[tuple[int, int], fx.Graph]] = WeakKeyDictionary()
"""Graphs of parts that were extracted already, by number and source."""


def _find_data_leaf(leaves: list[Any]) -> int:
    """Return which argument tells where and in which type to compute: the first floating tensor."""
    tensors = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    floats = [k for k in tensors if leaves[k].is_floating_point()]
    return next(iter(floats or tensors or [0]))


def extract_part(module: fx.GraphModule, number: int, source: int) -> fx.Graph:
    """Return the graph of one part: its arguments taken apart, a tuple of its results.

    Args:
        module: Made of joined Programs.
        number: The part's.
        source: Which of the part's arguments stands for the one, perhaps another part's, whose
            device and type the module follows.
    """
    before = sum(_find_specs(module, k)[0].num_leaves for k in range(number))
    skipped = sum(_find_specs(module, k)[1].num_leaves for k in range(number))
    in_spec, out_spec = _find_specs(module, number)
    nodes = list(module.graph.nodes)
    inputs = [node for node in nodes if node.op == "placeholder"]
    own = inputs[before : before + in_spec.num_leaves]
    flat: Any = next(node for node in nodes if node.op == "output").args[0]
    results = tuple(flat)[skipped : skipped + out_spec.num_leaves]
    needed = find_sources(*(r for r in results if isinstance(r, fx.Node)))
    graph, new = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in own:
        new[node] = graph.placeholder(node.name)
    for node in nodes:
        if node not in needed or node in new:
            continue
        argument = node.all_input_nodes[0] if _checks_size(module, node) else node
        foreign = argument.op == "placeholder" and argument not in own
        new[node] = new[own[source]] if foreign else graph.node_copy(node, new.__getitem__)
    graph.output(fx.node.map_arg(results, new.__getitem__))
    return graph


def _guess_data_argument(module: fx.GraphModule, number: int) -> int:
    """Return the first of a part's arguments that a layer with weights reads, other than indices.

    A graph does not tell the types of its arguments.
    """
    graph = extract_part(module, number, 0)
    for k, node in enumerate(node for node in graph.nodes if node.op == "placeholder"):
        users = {user for first in node.users for user in (first, *first.users)}
        for user in (u for u in users if u.op == "call_module"):
            layer = module.get_submodule(str(user.target))
            if any(True for _ in layer.parameters()) and not isinstance(layer, nn.Embedding):
                return k
    return 0


def _checks_size(module: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(
        module.get_submodule(str(node.target)), InputSize
    )


def _find_specs(module: fx.GraphModule, number: int) -> tuple[pytree.TreeSpec, pytree.TreeSpec]:
    """Return how a part's arguments, positional and by name, and its results are nested."""
    nesting = io_nesting(module.graph)
    if nesting is None:
        raise PrunerError(f"{type(module).__name__} is no network of several parts")
    calls, _ = spec_children(nesting[1])
    return spec_children(calls)[number], spec_children(nesting[2])[number]


def _order_leaves(spec: pytree.TreeSpec, args: tuple[Any, ...], kwargs: Any) -> list[Any]:
    """Return a call's arguments one after the other, those by name in the traced order."""
    names = spec_children(spec)[1].context or []
    ordered = {**{name: kwargs[name] for name in names if name in kwargs}, **kwargs}
    return pytree.tree_leaves((args, ordered))


def detach_part(module: fx.GraphModule, number: int, path: str) -> fx.GraphModule:
    """Return one part as a network of its own, with the names that it has by itself.

    It shares the layers and tensors of the module, which was made of joined Programs; number and
    path are the part's.
    """
    graph = extract_part(module, number, _guess_data_argument(module, number))
    prefix = rename_by_prefix(path, {v: k for k, v in renamed_parts(module).items()}) + "."
    root = nn.Module()
    tensors = named_tensors(module, tied=True)
    layers = dict(module.named_modules(remove_duplicate=False))
    called: dict[str, Any] = {}
    own = {k: v for k, v in tensors.items() if k.startswith(prefix)}
    for node in graph.nodes:
        if node.op in ("get_attr", "call_module"):
            found: Mapping[str, Any] = tensors if node.op == "get_attr" else layers
            value = found[str(node.target)]
            if not isinstance(value, InputSize):  # which is named after the argument
                node.target = _find_own_name(found, str(node.target), prefix)
            called[str(node.target)] = value
    for name, value in sorted(called.items()):
        if isinstance(value, nn.Module):
            put_module(root, name, value)
        else:
            put_tensor(root, name, value)
    saved = module.state_dict()
    transient = {k.removeprefix(prefix) for k in own if k not in saved}
    own = {k.removeprefix(prefix): v for k, v in own.items()}
    in_spec, out_spec = _find_specs(module, number)
    args, kwargs = spec_children(in_spec)
    names = [f"argument_{k}" for k in range(len(spec_children(args)))]
    set_io_nesting(graph, [*names, *map(str, kwargs.context or [])], in_spec, out_spec)
    result = RebuiltModule(root, graph, re.sub(r"\W", "_", path))
    put_missing_tensors(result, own, transient)
    order_tensors(result, own)
    names_of = {k: v for k, v in renamed_parts(module).items() if k.startswith(prefix)}
    restore_names(result, {k.removeprefix(prefix): v[len(path) + 1 :] for k, v in names_of.items()})
    return result.train(module.training)


def _find_own_name(found: Mapping[str, Any], name: str, prefix: str) -> str:
    """Return the name within a part of what the graph calls so, which another part may hold too."""
    if name.startswith(prefix):
        return name.removeprefix(prefix)
    for other, value in found.items():
        if value is found[name] and other.startswith(prefix):
            return other.removeprefix(prefix)
    raise PrunerError(f"{prefix.rstrip('.')} uses {name!r} of another part")
