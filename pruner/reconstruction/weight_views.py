"""WeightViews: which parameters a graph's operators read, whole or by views of a part."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..graph import get_layer, is_mutable, operator_name, operator_schema

_TYPE_ONLY = ("sym_size", "getattr", "zeros_like", "ones_like", "empty_like")


@dataclass(frozen=True)
class ParameterView:
    """A parameter, or a part of one that shares its memory: writing to it changes the parameter.

    Attributes:
        name: Of the parameter.
        tensor: The view.
    """

    name: str
    tensor: Tensor

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells this view from another of the same memory."""
        view = self.tensor
        return view.data_ptr(), tuple(view.shape), view.stride()

    @property
    def is_whole(self) -> bool:
        """Whether this is all of the parameter, in its own order."""
        return isinstance(self.tensor, nn.Parameter)


class WeightViews:
    """The parameters in a module's graph, and every operator that reads one.

    An operator that gives a view of a parameter, such as a split of a fused projection, is part of
    the way to the one that reads it; what computes new numbers from a parameter reads it.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self._views: dict[fx.Node, Any] = {}
        self._names: dict[fx.Node, str] = {}
        self._uses: dict[int, list[tuple[fx.Node, Tensor]]] = defaultdict(list)
        for node in module.graph.nodes:
            if node.op == "get_attr":
                found = _get_tensor(module, str(node.target))
                if isinstance(found, nn.Parameter):
                    self._views[node], self._names[node] = found, str(node.target)
            elif node.op == "call_module":
                for own in module.get_submodule(str(node.target)).parameters():
                    self._note_use(node, own)
            else:
                self._follow(node)

    def _follow(self, node: fx.Node) -> None:
        """Take a node for a view of a parameter, or for a reader of those among its inputs."""
        sources = [one for one in node.all_input_nodes if one in self._views]
        if not sources:
            return
        if len(node.all_input_nodes) == 1 and _gives_view(node):
            made = _run(node, self._views)
            kept = made if isinstance(made, list | tuple) else [made]
            held = self._find_memory(sources[0])
            if all(isinstance(one, Tensor) and _find_memory(one) == held for one in kept):
                self._views[node], self._names[node] = made, self._names[sources[0]]
                return
        likened = operator_name(node) == "type_as" and node.args[0] not in self._views
        if operator_name(node) in _TYPE_ONLY or likened:
            return  # numbers are not read
        for source in sources:
            given = self._views[source]
            for one in given if isinstance(given, list | tuple) else [given]:
                self._note_use(node, one)

    def _find_memory(self, node: fx.Node) -> int:
        held = self._views[node]
        return _find_memory(held[0] if isinstance(held, list | tuple) else held)

    def _note_use(self, node: fx.Node, tensor: Tensor) -> None:
        self._uses[_find_memory(tensor)].append((node, tensor))

    def is_view(self, node: fx.Node) -> bool:
        """Whether a node is a parameter, or gives views of one."""
        return node in self._views

    def find(self, value: Any) -> ParameterView | None:
        """Return the view that an argument is; None for anything else."""
        if not isinstance(value, fx.Node) or not isinstance(self._views.get(value), Tensor):
            return None
        return ParameterView(self._names[value], self._views[value])

    def find_of_layer(self, node: fx.Node, leaf: str) -> ParameterView | None:
        """Return a layer's parameter; None where it has none of that name."""
        found = getattr(get_layer(self.module, node), leaf, None)
        return ParameterView(f"{node.target}.{leaf}", found) if isinstance(found, Tensor) else None

    def list_other_readers(self, view: ParameterView, readers: set[fx.Node]) -> list[fx.Node]:
        """Return the operators beside some that read any number of a view."""
        uses = self._uses[_find_memory(view.tensor)]
        others = [(node, tensor) for node, tensor in uses if node not in readers]
        if not others:
            return []
        mine = _mark_numbers(view.tensor)
        return [node for node, tensor in others if (mine & _mark_numbers(tensor)).any()]


def _get_tensor(module: nn.Module, path: str) -> Any:
    parent, _, leaf = path.rpartition(".")
    return getattr(module.get_submodule(parent), leaf, None)


def _gives_view(node: fx.Node) -> bool:
    """Whether an operator may return its argument's memory."""
    if operator_name(node) == "getitem":
        return True
    schema = operator_schema(node.target)
    returns = () if schema is None else schema.returns
    return not is_mutable(node) and any(one.alias_info is not None for one in returns)


@torch.no_grad()
def _run(node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    target: Any = node.target
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    return target(*args, **kwargs)


def _find_memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _mark_numbers(tensor: Tensor) -> Tensor:
    """Return which numbers of its memory a view holds: [numbers] bool."""
    count = tensor.untyped_storage().nbytes() // tensor.element_size()
    marks = torch.zeros(count, dtype=torch.bool)
    marks.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(True)
    return marks
