"""How a network's arguments and results are nested, as plain data: no pickle, no source.

Tuples, lists, dictionaries and named tuples come back as what they were. A result class of the
``transformers`` library comes back as that class where the library is installed; there, and for
classes of the model's own source, an `Output` stands in otherwise.
"""

import importlib
import re
import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Iterable, Mapping
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from ..errors import PrunerError
from .torch_internals import io_nesting, spec_children

_LIBRARY = re.compile(r"transformers\.(modeling_outputs|models\.\w+\.modeling_\w+)\.(\w+)")


class Output(dict[str, Any]):
    """Results by name, as keys and as attributes: for a class that is not there."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no result {name!r}; there are {', '.join(self)}") from None


pytree.register_pytree_node(
    Output,
    lambda output: (list(output.values()), list(output)),
    lambda values, keys: Output(zip(keys, values)),
    serialized_type_name="pruner.nesting.Output",
)


def encode_spec(spec: pytree.TreeSpec) -> Any:
    """Return a tree's shape as JSON: None for a leaf, else ``[kind, name, keys, parts]``.

    Raises:
        PrunerError: Another class than sequences, dictionaries, named tuples and records.
    """
    if spec.is_leaf():
        return None
    kind, context = spec.type, spec.context
    parts = [encode_spec(child) for child in spec_children(spec)]
    if kind in (tuple, list):
        return [kind.__name__, "", None, parts]
    if kind in (dict, OrderedDict):
        keys, label = list(context), kind.__name__
        if all(isinstance(key, str | int) for key in keys):
            return [label, "", keys, parts]
    if kind is namedtuple:  # its class is the context
        return ["namedtuple", context.__name__, list(context._fields), parts]
    names = _read_names(context, len(parts))
    if names is None or not isinstance(kind, type):
        raise PrunerError(
            f"cannot store arguments or results nested in {getattr(kind, '__qualname__', kind)}: "
            "tuples, lists, dictionaries, named tuples and registered dataclasses can be"
        )
    return ["class", f"{kind.__module__}.{kind.__qualname__}", names, parts]


def decode_spec(content: Any) -> pytree.TreeSpec:
    """Return the tree's shape that `encode_spec` wrote; warn of a class that is not installed."""
    return pytree.tree_structure(_build_example(content))


def _read_names(context: Any, count: int) -> list[str] | None:
    """Return the names of a record's parts, which transformers and torch.export keep in context."""
    nested = isinstance(context, list | tuple) and context and isinstance(context[0], list | tuple)
    names = context[0] if nested else context
    if isinstance(names, Iterable) and not isinstance(names, str):
        names = list(names)
        if len(names) == count and all(isinstance(name, str) for name in names):
            return names
    return None


def _build_example(content: Any) -> Any:
    if content is None:
        return 0
    kind, name, keys, parts = content
    values = [_build_example(part) for part in parts]
    if kind in ("tuple", "list"):
        return tuple(values) if kind == "tuple" else values
    if kind in ("dict", "OrderedDict"):
        pairs = list(zip(keys, values, strict=True))
        return dict(pairs) if kind == "dict" else OrderedDict(pairs)
    if kind == "namedtuple":
        return namedtuple(name, keys)(*values)  # type: ignore[misc]
    if kind != "class":
        raise PrunerError(f"the stored network nests its results in an unknown kind: {kind!r}")
    found = _import_class(name)
    output = Output(zip(keys, values, strict=True))
    return output if found is None else found(**output)


def _import_class(name: str) -> Any:
    """Import a result class of transformers: a file can name no other module to be imported."""
    match = _LIBRARY.fullmatch(name)
    if match is None:
        return None
    try:
        base = importlib.import_module("transformers.utils").ModelOutput
        found = getattr(importlib.import_module(name.rpartition(".")[0]), match[2], None)
    except ImportError:
        warnings.warn(
            f"{match[2]} of transformers is not installed: results come as dictionaries",
            stacklevel=2,
        )
        return None
    return found if isinstance(found, type) and issubclass(found, base) else None


def flatten_arguments(
    module: fx.GraphModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Return a call's arguments one after the other, in the order of the graph's placeholders."""
    nesting = io_nesting(module.graph)
    if nesting is not None:  # in the order in which the network was traced
        kwargs = {name: kwargs[name] for name in nesting[0] if name in kwargs} or kwargs
    return tuple(pytree.tree_leaves((args, dict(kwargs))))


def nest_results(module: fx.GraphModule) -> Any:
    """Return what a graph returns, nested as its module does, with nodes in the values' places."""
    graph = module.graph
    output = next(node for node in graph.nodes if node.op == "output")
    return graph.process_outputs(output.args[0])
