"""Names that a graph's module cannot have, written otherwise in it and as they were in state_dict.

A model may call a submodule ``graph``, ``code`` or ``class``: attributes of
``torch.fx.GraphModule``, and words of Python, in which a graph's code is written.
"""

import keyword
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

from torch import fx, nn

from .program import Program
from .torch_internals import child_modules


class _Aliases(dict[str, Any]):
    """A module's children of which some go by another name, and are found by both."""

    def __init__(self, children: Mapping[str, Any], names: Mapping[str, str]) -> None:
        super().__init__((names.get(name, name), child) for name, child in children.items())
        self.names = names

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(self.names.get(name, name))

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self.names


@contextmanager
def alias_children(model: nn.Module) -> Iterator[dict[str, str]]:
    """Let submodules whose names torch.export cannot reach go by others meanwhile.

    It asks for them by dotted names as attributes, and cannot where a name has a dot in it or is
    that of a method. The model's own code finds them as before.

    Yields:
        The other dotted names -> those of the model.
    """
    kept, found = [], dict[str, str]()
    taken = _known_attributes(False)
    for module in list(model.modules()):
        children = child_modules(module)
        names: dict[str, str] = {}
        for name in children:
            other = name.replace(".", "_")
            while other in taken or (other != name and other in {*children, *names.values()}):
                other += "_"
            if other != name:
                names[name] = other
        if names:
            kept.append((module, children))
            module.__dict__["_modules"] = _Aliases(children, names)
    try:
        for path, module in model.named_modules(remove_duplicate=False):
            held = child_modules(module)
            if isinstance(held, _Aliases):
                before = rename_by_prefix(path, found) if path else ""
                for name, other in held.names.items():
                    key = f"{path}.{other}" if path else other
                    found[key] = f"{before}.{name}" if before else name
        yield found
    finally:
        for module, children in kept:
            module.__dict__["_modules"] = children


def escape_names(program: Program, aliases: Mapping[str, str]) -> Program:
    """Return a Program whose names a module of its graph can have; the graph is changed in place.

    ``renamed`` of the result leads from the new dotted names (of modules and tensors, where they
    differ) to those of before, and on to what they stand for among aliases.
    """
    paths = {str(node.meta.get("path") or "") for node in program.graph.nodes} - {""}
    new = _choose_names({*program.tensors, *program.tied, *program.tied.values(), *paths})
    if not new and not aliases:
        return program

    def rename(name: str) -> str:
        return rename_by_prefix(name, new)

    for node in program.graph.nodes:
        if node.op == "get_attr":
            node.target = rename(str(node.target))
        if node.meta.get("path"):
            node.meta["path"] = rename(str(node.meta["path"]))
    return replace(
        program,
        tensors={rename(name): tensor for name, tensor in program.tensors.items()},
        tied={rename(name): rename(kept) for name, kept in program.tied.items()},
        transient=frozenset(map(rename, program.transient)),
        renamed={
            **{rename(name): original for name, original in aliases.items()},
            **{escaped: rename_by_prefix(name, aliases) for name, escaped in new.items()},
        },
    )


def rename_by_prefix(name: str, names: Mapping[str, str]) -> str:
    """Return a dotted name with the longest beginning that names holds replaced."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        known = names.get(".".join(parts[:end]))
        if known is not None:
            return ".".join([known, *parts[end:]])
    return name


def is_speakable(part: str) -> bool:
    """Whether a part of a dotted name can stand in a graph's code."""
    return part.isprintable() and not keyword.iskeyword(part) and not set(part) & set("\"'\\")


def _choose_names(names: Iterable[str]) -> dict[str, str]:
    """Return dotted names, and beginnings of such, that must change, and what they become."""
    children: dict[str, set[str]] = defaultdict(set)
    for name in names:
        parts = name.split(".")
        for depth, part in enumerate(parts):
            children[".".join(parts[:depth])].add(part)
    changed: dict[str, str] = {}
    for parent in sorted(children, key=lambda path: path.count(".") + bool(path)):
        for part in sorted(children[parent]):
            escaped = "".join(c if is_speakable(c) else "_" for c in part)
            while (
                not is_speakable(escaped)
                or escaped in _known_attributes(not parent)
                or (escaped != part and escaped in children[parent])
            ):
                escaped += "_"
            if escaped != part:
                children[parent].add(escaped)
                before = rename_by_prefix(parent, changed) if parent else ""
                path = f"{parent}.{part}" if parent else part
                changed[path] = f"{before}.{escaped}" if before else escaped
    return changed


@cache
def _known_attributes(root: bool) -> frozenset[str]:
    """Return what a graph's module, or a module within it, calls its own."""
    return frozenset(dir(fx.GraphModule(nn.Module(), fx.Graph()) if root else nn.Module()))


class _Renaming:
    """A hook of ``state_dict`` or ``load_state_dict``: replaces names below a prefix in place."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = dict(names)

    def __call__(
        self, module: nn.Module, state: MutableMapping[str, Any], prefix: str, *_: Any
    ) -> None:
        content = dict(state)
        state.clear()
        for name, value in content.items():
            if name.startswith(prefix):
                name = prefix + rename_by_prefix(name[len(prefix) :], self.names)
            state[name] = value


def restore_names(module: fx.GraphModule, renamed: Mapping[str, str]) -> None:
    """Let a module's ``state_dict``, and what it loads, have the names that its model has."""
    if renamed:
        module.meta["renamed"] = dict(renamed)
        module.register_state_dict_post_hook(_Renaming(renamed))
        inverse = {name: escaped for escaped, name in renamed.items()}
        module.register_load_state_dict_pre_hook(_Renaming(inverse))


def renamed_parts(module: fx.GraphModule) -> dict[str, str]:
    """Return the names that `restore_names` was called with."""
    return dict(module.meta.get("renamed", {}))
