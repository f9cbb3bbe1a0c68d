"""Cut a network to a plan: slice its tensors, drop its blocks, rewrite the sizes in its graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from .axes import mask
from .errors import PlanError
from .materialize import materialize
from .network import Network
from .nodes import operator_name
from .plan import Plan
from .program import Program


def apply(net: Network, plan: Plan) -> fx.GraphModule:
    """The smaller network that a plan describes, with copies of the kept weights, in eval mode.

    Raises :class:`PlanError` where the plan names what the network has not.
    """
    plan.check(net)
    keep = {}
    for name, kept in plan.keep.items():
        keep[name] = np.zeros(net.dims[name].size, bool)
        keep[name][list(kept)] = True
    dropped = [name for name, stays in plan.blocks.items() if not stays]
    return materialize(cut(net, keep, dropped), net.name)


def cut(
    net: Network, keep: Mapping[str, NDArray[np.bool_]], dropped: Sequence[str] = ()
) -> Program:
    """The Program with only these indices of the Dims (missing: all) and without these blocks."""
    by_atom = {net.atoms[name]: kept for name, kept in keep.items()}
    graph = fx.Graph()
    new: dict[fx.Node, fx.Node] = {}
    tensors: dict[str, Tensor] = {}
    for node in net.program.graph.nodes:
        made = graph.node_copy(node, new.__getitem__)
        made.meta = dict(node.meta)
        new[node] = made
        if node.op == "get_attr":
            name = str(node.target)
            tensors[name] = _slice(
                net.program.tensors[name],
                [mask(axis, by_atom) for axis in net.reading.axes[node]],
            )
        for path, axis in net.reading.literals.get(node, {}).items():
            _write(made, path, int(mask(axis, by_atom).sum()))
    _drop(net, graph, dropped)
    used = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    for name, tensor in net.program.tensors.items():  # counters and the like, read by no operator
        prefix = name.rpartition(".")[0]
        if name not in tensors and any(other.startswith(f"{prefix}.") for other in used):
            tensors[name] = tensor.clone()
    return replace(
        net.program,
        graph=graph,
        tensors={k: v for k, v in tensors.items() if k in used or k not in _read(net)},
    )


def _read(net: Network) -> set[str]:
    return {str(node.target) for node in net.program.graph.nodes if node.op == "get_attr"}


def _slice(tensor: Tensor, masks: list[NDArray[np.bool_]]) -> Tensor:
    values = tensor.detach()
    for axis, kept in enumerate(masks):
        if not kept.all():
            index = torch.from_numpy(np.flatnonzero(kept)).to(values.device)
            values = values.index_select(axis, index)
    values = values.clone(memory_format=torch.contiguous_format)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values, tensor.requires_grad)
    return values


def _write(node: fx.Node, path: tuple[int | str, ...], number: int) -> None:
    """Put a number at its place in the node's (immutable) arguments."""
    first, *rest = path

    def put(value: Any, steps: list[int | str]) -> Any:
        if not steps:
            return number
        items = list(value)
        items[int(steps[0])] = put(items[int(steps[0])], steps[1:])
        return items

    if isinstance(first, str):
        node.kwargs = {**node.kwargs, first: put(node.kwargs[first], rest)}
    else:
        node.args = tuple(put(a, rest) if i == first else a for i, a in enumerate(node.args))


def _drop(net: Network, graph: fx.Graph, dropped: Sequence[str]) -> None:
    """Replace the joins by what skips the branch, then remove what nothing reads any more."""
    for name in dropped:
        if name not in net.blocks:
            raise PlanError(f"no block {name!r}; the network has {', '.join(net.blocks) or 'none'}")
    by_name = {node.name: node for node in graph.nodes}
    for name in dropped:
        block = net.blocks[name]
        if set(block.inside).intersection(dropped):
            continue
        join = by_name[block.join]
        skips = [s for s in join.args[:2] if isinstance(s, fx.Node) and s.name not in block.nodes]
        join.replace_all_uses_with(skips[0])
    if dropped:
        _erase(graph)
        for node in list(graph.nodes):  # relu(relu(x)) is left where a block fell away
            source = node.args[0] if node.args else None
            if (
                isinstance(source, fx.Node)
                and operator_name(node) in _IDEMPOTENT
                and operator_name(source) == operator_name(node)
                and source.args[1:] == node.args[1:]
            ):
                node.replace_all_uses_with(source)
        _erase(graph)


_IDEMPOTENT = ("relu", "relu6", "hardtanh", "clamp_min")


def _erase(graph: fx.Graph) -> None:
    for node in reversed(list(graph.nodes)):
        mutable = getattr(getattr(node.target, "_schema", None), "is_mutable", False)
        if not node.users and node.op not in ("placeholder", "output") and not mutable:
            graph.erase_node(node)
