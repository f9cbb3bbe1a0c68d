"""The pass that holds what a computed weight takes from all of itself at its present value.

Weight and spectral normalization, and quantizers, divide a weight by a number that sums over it.
With fewer channels the sum would be another, and what is left of the weight larger, layer after
layer. So such a scale becomes a buffer: of the weight, the cut then takes the part that it had. A
weight that is computed as a whole (orthogonal by a matrix exponential) becomes a parameter itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain, count
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from .ops import find_input_dependent, find_sources, operator_name, remove_dead_nodes
from .program import Program

_WEIGHTED = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
             "conv_transpose3d")  # fmt: skip
WHOLE = ("matrix_exp", "linalg_matrix_exp", "linalg_qr", "linalg_householder_product", "inverse",
          "linalg_inv", "linalg_inv_ex", "linalg_solve", "linalg_solve_ex", "linalg_svd",
          "linalg_cholesky", "linalg_eigh")  # fmt: skip
"""Every number of what they give depends on all that they read."""
_SUMS = ("dot", "vdot", "sum", "mean", "norm", "linalg_vector_norm", "linalg_matrix_norm",
         "linalg_norm", "frobenius_norm", "std", "var", "amax", "amin", "max", "min", "matmul",
         "mm", "bmm", "einsum", "median")  # fmt: skip
"""They may give one number of many."""


def hold_weight_scales(program: Program) -> Program:
    """Return a Program in which no weight's scale is a sum over it; the graph is changed in place.

    Its notes name what is held.
    """
    graph, tensors = program.graph, dict(program.tensors)
    notes: dict[str, None] = {}
    for layer, weight in _find_computed_weights(graph).items():
        path = str(layer.meta.get("path") or "")
        sources = _list_sources(graph, weight)
        if any(operator_name(node) in WHOLE for node in sources):
            held = nn.Parameter(_compute(sources, tensors)[weight].clone())
            _replace(graph, weight, _add_tensor(f"{path}.weight", held, tensors))
            notes[f"{path}: its weight is computed as a whole: it is held as it is"] = None
            continue
        for node in sources:
            if operator_name(node) == "_weight_norm":
                made = _expose_norm(graph, node, path, tensors)
                weight = made if node is weight else weight
                notes[f"{path}: what its weight is divided by is held as it is"] = None
        while scales := [node for node in _list_sources(graph, weight) if _is_scale(node)]:
            value = _compute(_list_sources(graph, scales[-1]), tensors)[scales[-1]]
            name = _add_tensor(f"{path}.weight_scale", value.clone(), tensors)
            _replace(graph, scales[-1], name)
            notes[f"{path}: what its weight is divided by is held as it is"] = None
    remove_dead_nodes(graph)
    return replace(program, tensors=tensors, notes=(*program.notes, *notes)) if notes else program


def _find_computed_weights(graph: fx.Graph) -> dict[fx.Node, fx.Node]:
    """Return the layers whose weight is computed from tensors alone, with that weight."""
    live = find_input_dependent(graph, sizes=True)
    weights = {
        node: node.args[1]
        for node in graph.nodes
        if node in live and operator_name(node) in _WEIGHTED and len(node.args) > 1
    }
    return {
        node: weight
        for node, weight in weights.items()
        if isinstance(weight, fx.Node) and weight.op == "call_function" and weight not in live
    }


def _list_sources(graph: fx.Graph, node: fx.Node) -> list[fx.Node]:
    """Return what a node's value is computed from and the node, in the order of the graph."""
    found = find_sources(node)
    return [one for one in graph.nodes if one in found]


@torch.no_grad()
def _compute(nodes: Iterable[fx.Node], tensors: Mapping[str, Tensor]) -> dict[fx.Node, Any]:
    """Return the values of nodes that read no input of the network."""
    values: dict[fx.Node, Any] = {}
    for node in nodes:
        if node.op == "get_attr":
            values[node] = tensors[str(node.target)].detach()
        else:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    return values


def _is_scale(node: fx.Node) -> bool:
    """Return whether an operator makes one number of a tensor of several."""
    shape = node.meta.get("shape")
    if operator_name(node) not in _SUMS or not isinstance(shape, tuple):
        return False
    read = [source.meta.get("shape") for source in node.all_input_nodes]
    return prod(shape) == 1 and any(isinstance(one, tuple) and prod(one) > 1 for one in read)


def _expose_norm(graph: fx.Graph, node: fx.Node, path: str, tensors: dict[str, Tensor]) -> fx.Node:
    """Write a weight normalization g * v / |v| out, with |v| as a buffer; return the product."""
    v, g = node.args[:2]
    assert isinstance(v, fx.Node) and isinstance(g, fx.Node)
    dim: Any = node.args[2] if len(node.args) > 2 else 0
    value = _compute(_list_sources(graph, v), tensors)[v]
    norm = torch.norm_except_dim(value, 2, dim)
    name = _add_tensor(f"{path}.weight_scale", norm, tensors)
    with graph.inserting_before(node):
        held = graph.get_attr(name)
        ratio = graph.call_function(torch.ops.aten.div.Tensor, (g, held))
        made = graph.call_function(torch.ops.aten.mul.Tensor, (v, ratio))
    for one, like in ((held, g), (ratio, g), (made, node)):
        one.meta = dict(like.meta)
    node.replace_all_uses_with(made)
    return made


def _add_tensor(name: str, value: Tensor, tensors: dict[str, Tensor]) -> str:
    """Put a tensor under a name that is not taken, and return it."""
    name = name.removeprefix(".")
    free = next(
        each for each in chain([name], (f"{name}_{n}" for n in count(2))) if each not in tensors
    )
    tensors[free] = value
    return free


def _replace(graph: fx.Graph, node: fx.Node, name: str) -> None:
    """Let what reads a node read a tensor instead."""
    with graph.inserting_before(node):
        held = graph.get_attr(name)
    held.meta = dict(node.meta)
    node.replace_all_uses_with(held)
