"""Convolutions and matrix products: they end the axis that they sum over and begin a new one."""

import torch
from torch import fx

from ...graph import operator_arguments, operator_name
from ..algebra import Axis, freeze_axes, multiply, resolve_axis, split_product
from ..axis_map import Axes, AxisMap, Result
from .base import rule

KERNEL = "a kernel's extent"
MAP = "a feature map's extent"


TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", *TRANSPOSED)
PRODUCTS = ("matmul", "bmm", "mm", "mv", "addmm", "baddbmm")
"""Products of matrices; of the last two something else is the first argument."""


@rule(*CONVOLUTIONS)
def convolution(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate x [..., in, *map] and weight [out, in / groups, *kernel], in = groups * i.

    The weight of a transposed convolution is [in, out / groups, *kernel].
    """
    args = operator_arguments(node)
    x, weight = axis_map.axes_of(args["input"]), axis_map.axes_of(args["weight"])
    channel = len(x) - len(weight) + 1
    transposed = operator_name(node) in TRANSPOSED
    groups = args["groups"]
    if isinstance(groups, fx.Node):  # as many as batch * channels: the kernel is computed
        many = axis_map.shape_of(node if transposed else args["input"])[channel]
        groups = many // weight[1].size
        each, rest = divmod(groups, axis_map.batch.size)
        single = axis_map.shape_of(args["input"])[channel] == groups  # channels in a group
        if rest or (each != 1 and not single):
            return axis_map.freeze_node(node, "a number of groups that the graph computes")
        if each != 1:
            _count_groups(axis_map, node, channel)
    pointwise = _is_pointwise(axis_map, node)
    if not pointwise:
        freeze_axes(x[channel + 1 :], MAP)
    freeze_axes(weight[2:], KERNEL)
    split = split_product(x[channel], groups)
    written = (weight[0], weight[1]) if transposed else split_product(weight[0], groups)
    if split is None or written is None:
        return axis_map.freeze_node(node, f"{groups} groups that cut across joined channels")
    if transposed:
        axis_map.unify(multiply(split), weight[0], node)
        written = (split[0], weight[1])
        # one group each is depthwise: then the group is the channel that is written
        depthwise = resolve_axis(split[1]).size == 1 and groups > 1
        roles = ("out" if depthwise else "in", "out")
    else:
        axis_map.unify(split[0], written[0], node)
        axis_map.unify(split[1], weight[1], node)
        roles = ("out", "in")
    for i, role in enumerate(roles):
        axis_map.set_role(args["weight"], i, role)
    if isinstance(args["groups"], int) and groups > 1:
        place = list(args).index("groups")
        axis_map.set_symbolic(node, (place if place < len(node.args) else "groups",), split[0])
    out = multiply(written)
    _match_bias(axis_map, node, args["bias"], out)
    maps = axis_map.new_inner_axes(axis_map.shape_of(node)[channel + 1 :], MAP)
    return [*x[:channel], out, *(x[channel + 1 :] if pointwise else maps)]


def _is_pointwise(axis_map: AxisMap, node: fx.Node) -> bool:
    """Return whether a convolution takes the positions of a map one by one, like a linear layer.

    So tokens are mixed: the map is the width of each.
    """
    args = operator_arguments(node)
    strides, padding = (
        {*given} if isinstance(given := args[name], list | tuple) else {given}
        for name in ("stride", "padding")
    )
    kernel = axis_map.shape_of(args["weight"])[2:]
    return all(k == 1 for k in kernel) and strides == {1} and padding <= {0, "valid", "same"}


def _count_groups(axis_map: AxisMap, node: fx.Node, channel: int) -> None:
    """Let a convolution's number of groups, which the graph computes, be that of its channels."""
    args = operator_arguments(node)
    graph = axis_map.program.graph
    with graph.inserting_before(node):
        groups = graph.call_function(torch.ops.aten.sym_size.int, (args["input"], channel))
    groups.meta = {**node.meta, "shape": None, "dtype": None}
    axis_map.axes[groups] = []
    place = list(args).index("groups")
    if place < len(node.args):
        node.args = (*node.args[:place], groups, *node.args[place + 1 :])
    else:
        node.kwargs = {**node.kwargs, "groups": groups}


@rule("linear")
def linear(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Relate x [..., in] and weight [out, in]."""
    args = operator_arguments(node)
    x, weight = axis_map.axes_of(args["input"]), axis_map.axes_of(args["weight"])
    axis_map.unify(x[-1], weight[-1], node)
    axis_map.set_role(args["weight"], len(weight) - 1, "in")
    if len(weight) == 2:
        axis_map.set_role(args["weight"], 0, "out")
    out = weight[:-1]
    if out:
        _match_bias(axis_map, node, args["bias"], out[0])
    return [*x[:-1], *out]


def _match_bias(axis_map: AxisMap, node: fx.Node, bias: fx.Node | None, out: Axis) -> None:
    """Make the axis of a bias, where there is one, that of the output."""
    if bias is not None:
        axis_map.unify(axis_map.axes_of(bias)[0], out, node)
        axis_map.set_role(bias, 0, "out")


@rule("embedding")
def embedding(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Return the axes of the indices and the width of weight [entries, width]."""
    weight, indices = (axis_map.axes_of(source) for source in node.args[:2])
    freeze_axes(weight[:1], "a table's entries")
    axis_map.set_role(node.args[0], 1, "out")
    return [*indices, weight[1]]


@rule("matmul", "bmm", "mm", "mv", "dot")
def matmul(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate [..., m, k] @ [..., k, n] -> [..., m, n], leading axes broadcast."""
    left, right = (axis_map.axes_of(source) for source in node.args[:2])
    place = max(len(right) - 2, 0)  # a vector is a row on the left, a column on the right
    axis_map.unify(left[-1], right[place], node)
    axis_map.reduction_axes[node] = (len(left) - 1,)
    rows, columns = left[-2:-1], right[place + 1 :]
    axis_map.set_role(node.args[0], len(left) - 1, "in")
    axis_map.set_role(node.args[1], place, "in")
    if rows:
        axis_map.set_role(node.args[0], len(left) - 2, "out")
    if columns:
        axis_map.set_role(node.args[1], place + 1, "out")
    return [*broadcast(axis_map, node, left[:-2], right[:place]), *rows, *columns]


@rule("bilinear")
def bilinear(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Relate x [..., i], y [..., j], weight [out, i, j]."""
    args = operator_arguments(node)
    x, y, weight = (axis_map.axes_of(args[name]) for name in ("input1", "input2", "weight"))
    axis_map.unify(x[-1], weight[1], node)
    axis_map.unify(y[-1], weight[2], node)
    for i, role in enumerate(("out", "in", "in")):
        axis_map.set_role(args["weight"], i, role)
    for mine, theirs in zip(x[:-1], y[:-1]):
        axis_map.unify(mine, theirs, node)
    _match_bias(axis_map, node, args["bias"], weight[0])
    return [*x[:-1], weight[0]]


@rule("cdist", "_cdist_forward")
def cdist(axis_map: AxisMap, node: fx.Node) -> Axes:
    """Relate x [..., m, k], y [..., n, k] -> [..., m, n]: distances over k."""
    x, y = (axis_map.axes_of(source) for source in node.args[:2])
    axis_map.unify(x[-1], y[-1], node)
    return [*broadcast(axis_map, node, x[:-2], y[:-2]), x[-2], y[-2]]


@rule("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(axis_map: AxisMap, node: fx.Node) -> Result:
    """Return the width of weight [entries, width] for every bag."""
    weight = axis_map.axes_of(node.args[0])
    freeze_axes(weight[:1], "a table's entries")
    for source in node.all_input_nodes[1:]:
        freeze_axes(axis_map.all_axes(source), "a bag of entries")
    axis_map.set_role(node.args[0], 1, "out")
    first, *others = node.meta["shape"]
    bags = axis_map.new_axis(first[0], "a bag of entries")
    return [[bags, weight[1]], *[axis_map.new_frozen_axes(s, "a bag of entries") for s in others]]


def broadcast(axis_map: AxisMap, node: fx.Node, left: Axes, right: Axes) -> Axes:
    """Return the leading axes of a product of batches of matrices."""
    if len(left) < len(right):
        left, right = right, left
    extra = len(left) - len(right)
    result = list(left[:extra])
    for x, y in zip(left[extra:], right):
        if resolve_axis(x).size == resolve_axis(y).size:
            axis_map.unify(x, y, node)
        result.append(y if resolve_axis(x).size == 1 else x)
    return result


@rule("addmm", "baddbmm")
def addmm(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate bias + left @ right; some models write linear layers so, with weight [in, out]."""
    bias, left, right = (axis_map.axes_of(source) for source in node.args[:3])
    axis_map.unify(left[-1], right[-2], node)
    for place, axis, role in ((1, -1, "in"), (1, -2, "out"), (2, -2, "in"), (2, -1, "out")):
        axis_map.set_role(node.args[place], len((bias, left, right)[place]) + axis, role)
    result = [*broadcast(axis_map, node, left[:-2], right[:-2]), left[-2], right[-1]]
    for mine, theirs in zip(reversed(bias), reversed(result)):
        if resolve_axis(mine).size == resolve_axis(theirs).size:
            axis_map.unify(mine, theirs, node)
    if bias:
        axis_map.set_role(node.args[0], len(bias) - 1, "out")
    return result


@rule("einsum")
def einsum(axis_map: AxisMap, node: fx.Node) -> Result:
    """Make axes with the same letter one; an ellipsis stands for the axes in front."""
    equation, operands = node.args[0], node.args[1]
    assert isinstance(equation, str) and isinstance(operands, list | tuple)
    terms, output = parse_equation(
        equation, [len(axis_map.axes_of(operand)) for operand in operands]
    )
    letters: dict[str, Axis] = {}
    for term, operand in zip(terms, operands):
        if len(set(term)) != len(term):
            return axis_map.freeze_node(node, "an einsum over a diagonal")
        for letter, axis in zip(term, axis_map.axes_of(operand)):
            if letter in letters and resolve_axis(letters[letter]).size == resolve_axis(axis).size:
                axis_map.unify(letters[letter], axis, node)
            elif letter not in letters or resolve_axis(letters[letter]).size == 1:
                letters[letter] = axis
    summed = [letter for letter in letters if letter not in output]
    for letter in summed:
        if sum(letter in term for term in terms) < 2 and letter not in terms[0]:
            freeze_axes([letters[letter]], "summed over by einsum")
    axis_map.reduction_axes[node] = tuple(
        i for i, letter in enumerate(terms[0]) if letter in summed
    )
    for term, operand in zip(terms, operands):
        for i, letter in enumerate(term):
            axis_map.set_role(operand, i, "out" if letter in output else "in")
    return [letters[letter] for letter in output]


def parse_equation(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Return the letters of every operand and of the result, an ellipsis as capitals."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    count = max((r - len(t) + 3 for t, r in zip(terms, ranks) if "..." in t), default=0)
    spare = [letter for letter in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if letter not in equation]
    front = "".join(spare[:count])
    if not arrow:  # then the letters that occur once, in alphabetical order
        once = sorted(c for c in set(left) - set(",.") if left.count(c) == 1)
        output = ("..." if "..." in left else "") + "".join(once)
    full = [
        term.replace("...", front[count - (rank - len(term) + 3) :]) if "..." in term else term
        for term, rank in zip(terms, ranks)
    ]
    return full, output.replace("...", front)
