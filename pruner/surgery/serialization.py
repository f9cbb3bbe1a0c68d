"""Saves and loads materialized networks: tensors and a JSON graph, no pickle, no source.

One safetensors file: the tensors under their ``state_dict`` names, and in its header the graph (its
nodes in order, what they call and with what) and the settings of its layers. Loading can only call
ATen operators, arithmetic on sizes and the layers of :mod:`pruner.graph.layer_registry`.
"""

import importlib
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from ..errors import PrunerError
from ..graph import (
    LAYER_SETTINGS,
    LAYERS_BY_NAME,
    RebuiltModule,
    build_layer,
    decode_spec,
    encode_spec,
    group_tied_names,
    io_nesting,
    is_operator,
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

FILE = "model.safetensors"
PLAN = "plan.json"
_KIND = "network"
_DEVICE = "device"  # the one attribute of a tensor that a graph reads
_EXTENSIONS = tuple(
    f"torchvision.{name}.default"
    for name in ("deform_conv2d", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "nms")
)
"""Operators of other packages, which register them when they are imported, that may be called."""
_ARITHMETIC = {
    name: getattr(operator, name)
    for name in ("getitem", "mul", "add", "sub", "floordiv", "truediv", "mod", "neg", "pow",
                 "eq", "ne", "lt", "le", "gt", "ge")
}  # fmt: skip


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
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PrunerError(f"{path}: written by another version of this program: {error}") from error


def _rebuild(tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> fx.GraphModule:
    """Return the network of stored tensors and a header."""
    root, graph = nn.Module(), fx.Graph()
    renamed = header.get("renamed", {})
    inverse = {name: escaped for escaped, name in renamed.items()}
    tensors = {rename_by_prefix(name, inverse): tensor for name, tensor in tensors.items()}
    _check_names(tensors, header)
    for path in sorted(header["layers"]):
        layer = header["layers"][path]
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in layer["settings"].items()}
        put_module(root, path, build_layer(LAYERS_BY_NAME[layer["kind"]], values))
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
        target = _decode_operator(target) if op == "call_function" else target
        if op == "call_method":  # of which save writes none
            raise PrunerError(f"the stored network calls the method {target!r}: not allowed")
        args, kwargs = _decode(record["args"], nodes), _decode(record["kwargs"], nodes)
        if target is getattr and (len(args) != 2 or args[1] != _DEVICE):
            raise PrunerError("the stored network reads an attribute, which is not allowed")
        nodes[name] = graph.create_node(op, target, args, kwargs, name=name)
    if (nesting := header["nesting"]) is not None:
        specs = (decode_spec(nesting[side]) for side in ("in", "out"))
        set_io_nesting(graph, nesting["names"], *specs)
    result = RebuiltModule(root, graph, header["name"])
    share_layers(result, {**first, **second})  # of which the graph calls but one
    put_missing_tensors(result, {**tensors, **tied}, transient)
    order_tensors(result, header["parameters"])
    restore_names(result, renamed)
    return result.eval()


def _check_names(tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> None:
    """Raise PrunerError where a name would be more than a name in the code of the graph."""
    nodes = header["nodes"]
    paths = {*tensors, *header["layers"], *header["tied"], *header.get("shared", ())}
    paths |= {str(node["target"]) for node in nodes if node["op"] in ("get_attr", "call_module")}
    names = {str(node["target"]) for node in nodes if node["op"] == "placeholder"}
    names |= {str(name) for name in (header["nesting"] or {}).get("names", ())}
    wrong = [p for p in sorted(paths) if not all(map(is_speakable, p.split(".")))]
    wrong += [name for name in sorted(names) if not name.isidentifier()]
    if wrong:
        raise PrunerError(f"the stored network uses the name {wrong[0]!r}, which is not allowed")


def _encode_node(node: fx.Node) -> dict[str, Any]:
    """Return a node as plain values."""
    target = _encode_operator(node.target) if node.op == "call_function" else node.target
    args, kwargs = _encode(node.args), _encode(node.kwargs)
    return {"name": node.name, "op": node.op, "target": target, "args": args, "kwargs": kwargs}


def _encode_operator(target: Any) -> str:
    """Return the name of an ATen operator or of arithmetic; raise PrunerError for any other."""
    if is_operator(target) and target.namespace == "aten":
        return str(target)
    if target is getattr:
        return f"operator.{_DEVICE}"
    if str(target) in _EXTENSIONS:
        return str(target)
    name = getattr(target, "__name__", "")
    if _ARITHMETIC.get(name) is target:
        return f"operator.{name}"
    raise PrunerError(f"cannot store a call of {target}: no ATen operator and no arithmetic")


def _decode_operator(name: str) -> Callable[..., Any]:
    """Return the operator of a name; raise PrunerError where it is not allowed."""
    family, _, rest = name.partition(".")
    if name == f"operator.{_DEVICE}":
        return getattr
    if family == "operator" and rest in _ARITHMETIC:
        return _ARITHMETIC[rest]  # type: ignore[no-any-return]
    packet, _, overload = rest.rpartition(".")
    if name in _EXTENSIONS:
        try:
            importlib.import_module(family)
        except ImportError as error:
            raise PrunerError(f"the stored network calls {name!r}: install {family}") from error
        return getattr(getattr(getattr(torch.ops, family), packet), overload)  # type: ignore[no-any-return]
    if family != "aten" or not packet.isidentifier():
        raise PrunerError(f"the stored network calls {name!r}, which is not allowed")
    return getattr(getattr(torch.ops.aten, packet), overload)  # type: ignore[no-any-return]


# What JSON has no word for, as a dictionary with one key; constants of torch by their names.
_CONSTANT = (lambda v: str(v).removeprefix("torch."), lambda v: getattr(torch, v))
_WORDS: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    torch.dtype: ("dtype", *_CONSTANT),
    torch.device: ("device", str, torch.device),
    torch.memory_format: ("memory_format", *_CONSTANT),
    torch.layout: ("layout", *_CONSTANT),
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
