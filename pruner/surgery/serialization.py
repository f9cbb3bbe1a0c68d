"""Saves and loads materialized networks: tensors and a JSON graph, no pickle, no source.

One safetensors file: the tensors under their ``state_dict`` names, and in its header the graph (its
nodes in order, what they call and with what) and the settings of its layers. Loading can only call
ATen operators, arithmetic on sizes and the layers of :mod:`pruner.graph.layer_registry`.
"""

import keyword
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from ..errors import PrunerError, first_line
from ..graph import (
    LAYER_SETTINGS,
    LAYERS_BY_NAME,
    RebuiltModule,
    build_layer,
    decode_spec,
    encode_spec,
    group_tied_names,
    io_nesting,
    is_speakable,
    layer_settings,
    named_tensors,
    order_tensors,
    put_missing_tensors,
    put_module,
    put_tensor,
    rename_by_prefix,
    renamed_parts,
    restore_names,
    set_io_nesting,
    share_layers,
)
from ..structure import Plan
from ..utils import read_tensors, write_tensors
from .stored_operators import DEVICE, decode_operator, encode_operator

FILE = "model.safetensors"
PLAN = "plan.json"
_KIND = "network"
_TEXTS = ("padding", "mode", "names", "values")  # settings that may be words


def save(module: fx.GraphModule, plan: Plan | None, folder: Path | str) -> None:
    """Write a network made by :func:`pruner.apply` (and its plan) into a folder.

    Raises PrunerError for a module that is no such network, naming what cannot be stored.
    """
    if not isinstance(module, fx.GraphModule):
        raise PrunerError(f"expected a network made by pruner.apply, got {type(module).__name__}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    header = {
        "name": type(module).__name__,
        "nodes": [_encode_node(node) for node in module.graph.nodes],
        "layers": {
            path: {"kind": type(layer).__name__, "settings": layer_settings(layer)}
            for path, layer in module.named_modules()
            if type(layer) in LAYER_SETTINGS
        },
        "parameters": [name for name, _ in module.named_parameters()],
        "tied": {name: first for first, *more in group_tied_names(module) for name in more},
        "transient": _list_transient(module),
        "nesting": None,
    }
    if shared := _list_second_names(module):
        header["shared"] = shared
    if (nesting := io_nesting(module.graph)) is not None:
        names, in_spec, out_spec = nesting
        specs = {"in": encode_spec(in_spec), "out": encode_spec(out_spec)}
        header["nesting"] = {"names": names, **specs}
    tensors = named_tensors(module)
    if renamed := renamed_parts(module):  # in the file they have the model's names
        header["renamed"] = renamed
        tensors = {rename_by_prefix(name, renamed): value for name, value in tensors.items()}
    write_tensors(folder / FILE, _KIND, tensors, header)
    if plan is not None:
        plan.save(folder / PLAN)


def _list_second_names(module: nn.Module) -> dict[str, str]:
    """Return other names of modules that are held several times -> their first names."""
    first: dict[int, str] = {}
    return {
        name: first[id(one)]
        for name, one in module.named_modules(remove_duplicate=False)
        if first.setdefault(id(one), name) != name
    }


def _list_transient(module: fx.GraphModule) -> list[str]:
    """Return the names of the buffers that state_dict leaves out."""
    renamed, saved = renamed_parts(module), module.state_dict()
    return sorted(
        name for name, _ in module.named_buffers() if rename_by_prefix(name, renamed) not in saved
    )


def load(folder: Path | str) -> fx.GraphModule:
    """Return the network that :func:`save` wrote, in eval mode.

    Raises PrunerError where the file is missing, damaged, or calls what is not allowed.
    """
    path = Path(folder)
    path = path / FILE if path.is_dir() else path
    tensors, header = read_tensors(path, _KIND)
    try:
        return _rebuild(tensors, header)
    except PrunerError as error:
        raise PrunerError(f"{path}: {error}") from error
    except Exception as error:  # what a header of others may lead to is not to be foreseen
        raise PrunerError(
            f"{path}: written by another version of this program, or by hand: {first_line(error)}"
        ) from error


def _rebuild(tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> fx.GraphModule:
    """Return the network of stored tensors and a header."""
    root, graph = nn.Module(), fx.Graph()
    renamed = header.get("renamed", {})
    inverse = {name: escaped for escaped, name in renamed.items()}
    tensors = {rename_by_prefix(name, inverse): tensor for name, tensor in tensors.items()}
    _check_names(tensors, header)
    for path in sorted(header["layers"]):
        put_module(root, path, _build_layer(path, header["layers"][path], len(tensors)))
    second = {name: root.get_submodule(one) for name, one in header.get("shared", {}).items()}
    share_layers(root, second)
    first = {one: root.get_submodule(one) for one in header.get("shared", {}).values()}
    parameters, transient = set(header["parameters"]), set(header["transient"])
    for name, tensor in tensors.items():
        tensors[name] = tensor = nn.Parameter(tensor) if name in parameters else tensor
        put_tensor(root, name, tensor, name not in transient)
    tied = {name: tensors[kept] for name, kept in header["tied"].items()}
    for name, tensor in tied.items():
        put_tensor(root, name, tensor)
    nodes: dict[str, fx.Node] = {}
    for record in header["nodes"]:
        name, op, target = record["name"], record["op"], record["target"]
        target = decode_operator(target) if op == "call_function" else target
        if op == "call_method":  # of which save writes none
            raise PrunerError(f"the stored network calls the method {target!r}: not allowed")
        args, kwargs = _decode(record["args"], nodes), _decode(record["kwargs"], nodes)
        if target is getattr and (len(args) != 2 or args[1] != DEVICE):
            raise PrunerError("the stored network reads an attribute, which is not allowed")
        nodes[name] = graph.create_node(op, target, args, kwargs, name=name)
    if (nesting := header["nesting"]) is not None:
        specs = (decode_spec(nesting[side]) for side in ("in", "out"))
        set_io_nesting(graph, nesting["names"], *specs)
    result = RebuiltModule(root, graph, header["name"])
    share_layers(result, {**first, **second})  # of which the graph calls but one
    put_missing_tensors(result, {**tensors, **tied}, transient)
    _check_whole(result)
    order_tensors(result, header["parameters"])
    restore_names(result, renamed)
    return result.eval()


def _build_layer(path: str, record: Mapping[str, Any], count: int) -> nn.Module:
    """Return a stored layer, empty; PrunerError where its settings are not those of its kind.

    Every further layer of a stack has tensors of its own: of them there are count.
    """
    kind, settings = LAYERS_BY_NAME.get(record["kind"]), record["settings"]
    if kind is None or not set(settings) <= set(LAYER_SETTINGS[kind]):
        raise PrunerError(
            f"the stored network's layer {path!r}, a {record['kind']} of {', '.join(settings)}, is "
            "not allowed"
        )
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    for name, value in values.items():
        parts = value if isinstance(value, tuple) else (value,)
        kinds = int | float | None | (str if name in _TEXTS else bool)
        if not all(isinstance(part, kinds) for part in parts):
            raise PrunerError(f"the stored network's layer {path!r} has {name} {value!r}")
    depth = values.get("num_layers", 1)
    if not isinstance(depth, int) or depth > count:
        raise PrunerError(f"the stored network lacks tensors of layer {path!r}")
    return build_layer(kind, values)


def _check_whole(module: fx.GraphModule) -> None:
    """Raise PrunerError where the graph uses what is not there, or tensors have no numbers."""
    module.graph.lint()
    nodes = list(module.graph.nodes)
    if [node.op for node in nodes].count("output") != 1 or nodes[-1].op != "output":
        raise PrunerError("the stored network does not end with its results")
    for node in nodes:
        if node.op == "get_attr" and not isinstance(attrgetter(node.target)(module), torch.Tensor):
            raise PrunerError(f"the stored network reads {node.target!r}, which is no tensor")
        if (
            node.op == "call_module"
            and type(module.get_submodule(node.target)) not in LAYER_SETTINGS
        ):
            raise PrunerError(f"the stored network calls {node.target!r}, which is no layer of it")
    for name, tensor in named_tensors(module).items():
        if tensor.is_meta:
            raise PrunerError(f"the stored network lacks the tensor {name!r}")


def _check_names(tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> None:
    """Raise PrunerError where a name would be more than a name in the code of the graph."""
    nodes, nesting = header["nodes"], header["nesting"] or {}
    paths = {*tensors, *header["layers"], *header["tied"], *header.get("shared", ())}
    paths |= {str(node["target"]) for node in nodes if node["op"] in ("get_attr", "call_module")}
    names = {str(node["target"]) for node in nodes if node["op"] == "placeholder"}
    names |= {str(name) for node in nodes for name in node["kwargs"]["dict"]}
    names |= {str(name) for name in (*nesting.get("names", ()), *_list_keywords(nesting))}
    wrong = [p for p in sorted(paths) if not all(map(is_speakable, p.split(".")))]
    wrong += [name for name in sorted(names) if not name.isidentifier() or keyword.iskeyword(name)]
    if wrong:
        raise PrunerError(f"the stored network uses the name {wrong[0]!r}, which is not allowed")


def _list_keywords(nesting: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the names of keyword arguments in the stored nesting of a network's arguments."""
    _, _, _, parts = nesting.get("in") or (None, None, None, ())
    for part in parts:
        if part is not None and part[0] in ("dict", "OrderedDict"):
            yield from part[2]


def _encode_node(node: fx.Node) -> dict[str, Any]:
    """Return a node as plain values."""
    target = encode_operator(node.target) if node.op == "call_function" else node.target
    args, kwargs = _encode(node.args), _encode(node.kwargs)
    return {"name": node.name, "op": node.op, "target": target, "args": args, "kwargs": kwargs}


def _read_constant(kind: type) -> Callable[[str], Any]:
    """Return what finds a constant of torch by its name, and nothing else there."""

    def find(name: str) -> Any:
        found = getattr(torch, name)
        if not isinstance(found, kind):
            raise PrunerError(f"the stored network holds no {kind.__name__} named {name!r}")
        return found

    return find


def _write_constant(value: Any) -> str:
    return str(value).removeprefix("torch.")


# What JSON has no word for, as a dictionary with one key; constants of torch by their names.
_WORDS: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    torch.dtype: ("dtype", _write_constant, _read_constant(torch.dtype)),
    torch.device: ("device", str, torch.device),
    torch.memory_format: ("memory_format", _write_constant, _read_constant(torch.memory_format)),
    torch.layout: ("layout", _write_constant, _read_constant(torch.layout)),
    slice: ("slice", lambda v: [v.start, v.stop, v.step], lambda v: slice(*v)),
}


def _encode(value: Any) -> Any:
    """Return an argument as JSON; raise PrunerError where it has no word for it."""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item) for item in value]}
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {"dict": {str(key): _encode(item) for key, item in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    for kind, (word, encode, _) in _WORDS.items():
        if isinstance(value, kind):
            return {word: encode(value)}
    raise PrunerError(f"cannot store an argument of type {type(value).__name__}: {value!r}")


def _decode(value: Any, nodes: dict[str, fx.Node]) -> Any:
    """Return the argument that `_encode` wrote, with nodes by name."""
    if isinstance(value, list):
        return [_decode(item, nodes) for item in value]
    if not isinstance(value, dict):
        return value
    ((word, content),) = value.items()
    if word == "node":
        return nodes[content]
    if word == "tuple":
        return tuple(_decode(item, nodes) for item in content)
    if word == "dict":
        return {key: _decode(item, nodes) for key, item in content.items()}
    for known, _, decode in _WORDS.values():
        if word == known:
            return decode(content)
    raise PrunerError(f"the stored network holds an unknown kind of argument: {word!r}")
