"""Propagates axes through a Program by one rule an operator; what has none is frozen."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from ..graph import Program, find_input_dependent, is_mutable, operator_name, operator_schema
from .algebra import freeze_axes
from .axis_map import AxisMap, describe_node
from .roles import pass_roles_on
from .rules import RULES
from .rules.base import is_pointwise
from .rules.constants import multiply_sizes
from .rules.elementwise import COPIES, match_pointwise
from .rules.quantization import QUANTIZERS
from .rules.shape import VIEWS


def propagate_axes(program: Program) -> AxisMap:
    """Return the axes of every value in a copy of a Program's graph, rule by rule.

    Rules rewrite arguments of the copy, such as a scale that would follow a cut width.
    """
    axis_map = AxisMap(replace(program, graph=copy.deepcopy(program.graph)))
    live = find_input_dependent(axis_map.program.graph, sizes=True)
    roles = axis_map.roles, axis_map.early_roles
    for node in axis_map.program.graph.nodes:
        axis_map.roles = roles[node not in live]  # where rules put what they find
        if node.op == "placeholder":
            shape, reason = node.meta["shape"] or (), "an input of the network"
            axis_map.axes[node] = [
                *axis_map.new_frozen_axes(shape[:1], reason),
                *axis_map.new_inner_axes(shape[1:], reason),
            ]
        elif node.op == "output":
            for result in node.all_input_nodes:
                freeze_axes(axis_map.axes[result], "an output of the network")
        else:
            axis_map.axes[node] = _read_axes(axis_map, node)
    axis_map.roles = roles[0]
    pass_roles_on(axis_map, live, _read_axes)
    return axis_map


def _read_axes(axis_map: AxisMap, node: fx.Node) -> Any:
    """Return the axes of a tensor, or those that a rule gives an operator's results."""
    read = _tensor_axes if node.op == "get_attr" else _apply_rule
    return read(axis_map, node)


def _tensor_axes(axis_map: AxisMap, node: fx.Node) -> list[Any]:
    """Return new axes for a parameter or buffer; those of integers that may index are frozen."""
    tensor = axis_map.program.tensors[str(node.target)]
    numbers = tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool
    reason = None if numbers or all(map(_is_arithmetic, node.users)) else "a table of indices"
    return [axis_map.new_axis(size, reason) for size in tensor.shape]


def _is_arithmetic(node: fx.Node) -> bool:
    """Return whether an operator takes integers as what they are: element-wise, in another shape.

    Those that are looked up elsewhere as they are, are not.
    """
    if operator_name(node) in VIEWS:
        return all(map(_is_arithmetic, node.users))
    return is_pointwise(node) or operator_name(node) in (*COPIES, *QUANTIZERS)


def _apply_rule(axis_map: AxisMap, node: fx.Node) -> Any:
    """Return the axes of an operator's results; freeze them where no rule knows it."""
    name = operator_name(node)
    rule = RULES.get(name) or (match_pointwise if is_pointwise(node) else None)
    if node.meta["shape"] is None and operator_schema(node.target) is None:
        return multiply_sizes(axis_map, node)
    if rule is not None and (not is_mutable(node) or _writes_buffer(node)):
        try:
            result = rule(axis_map, node)
            if _has_shape(result, node.meta["shape"]):
                return result
        except Exception:  # an argument that the rule does not foresee: it knows nothing of it
            axis_map.symbolic_arguments.pop(node, None)
            axis_map.reduction_axes.pop(node, None)
        reason = f"{describe_node(node)} is called in a way that its rule does not know"
    else:
        reason = f"{describe_node(node)} has no rule"
    axis_map.unsupported.append(node)
    return axis_map.freeze_node(node, reason)


def _writes_buffer(node: fx.Node) -> bool:
    """Return whether a node writes a buffer that the network keeps, of the same shape."""
    source = node.args[0]
    return (
        operator_name(node) == "copy_" and isinstance(source, fx.Node) and source.op == "get_attr"
    )


def _has_shape(result: Any, shape: Any) -> bool:
    """Return whether axes have a shape; a rule that gets it wrong is treated as no rule."""
    if isinstance(shape, list):
        return len(result) == len(shape) and all(
            one is None or _has_shape(axes, one) for axes, one in zip(result, shape)
        )
    if shape is None:
        return True
    return len(result) == len(shape) and all(a.size == n for a, n in zip(result, shape))
