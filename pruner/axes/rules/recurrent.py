"""Recurrent layers: the gates of a cell share its hidden width, and so do all layers of a stack."""

from torch import fx

from ...graph import operator_arguments, operator_name
from ..algebra import UNIT, Atom, Axis, concatenate, freeze_axes, multiply
from ..axis_map import AxisMap, Result
from .base import rule

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule(*GATES)
def recurrent(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate x [batch, time, in] or [time, batch, in] and weights [gates * hidden, in or hidden].

    A silenced hidden unit stays at zero from a zero start: its gates multiply zero.
    """
    args, name = operator_arguments(node), operator_name(node)
    if "input" not in args or args.get("has_biases") is None:
        return axis_map.freeze_node(node, f"{name} over packed sequences")
    x, params = axis_map.axes_of(args["input"]), list(args["params"])
    directions = 2 if args["bidirectional"] else 1
    each = 4 if args["has_biases"] else 2
    if len(params) != each * directions * args["num_layers"]:
        return axis_map.freeze_node(node, f"{name} with a projection")
    freeze_axes([x[-2 if args["batch_first"] else 0]], "time")
    size = axis_map.shape_of(params[1])[-1]
    hidden: Axis = axis_map.new_axis(size)
    out = concatenate([hidden] * directions)
    for layer in range(args["num_layers"]):
        for direction in range(directions):
            start = each * (layer * directions + direction)
            _match_parameters(
                axis_map, node, params[start : start + each], x[-1] if layer == 0 else out, hidden
            )
    states = args["hx"] if isinstance(args["hx"], list | tuple) else [args["hx"]]
    first = axis_map.axes_of(states[0])
    for state in states:
        for mine, theirs in zip(axis_map.axes_of(state), [*first[:-1], hidden]):
            axis_map.unify(mine, theirs, node)
    result = [*x[:-1], out]
    return [result, *[[*first[:-1], hidden] for _ in node.meta["shape"][1:]]]


def _match_parameters(
    axis_map: AxisMap, node: fx.Node, params: list[fx.Node], into: Axis, hidden: Axis
) -> None:
    """Match the weights of input and state, and their biases, of one layer and direction."""
    count = GATES[operator_name(node)]
    gates = multiply((Atom(count, "the gates of a cell") if count > 1 else UNIT, hidden))
    for tensor, read in zip(params, (into, hidden)):
        axis_map.unify(axis_map.axes_of(tensor)[0], gates, node)
        axis_map.unify(axis_map.axes_of(tensor)[1], read, node)
        axis_map.set_role(tensor, 0, "out")
        axis_map.set_role(tensor, 1, "in")
    for tensor in params[2:]:
        axis_map.unify(axis_map.axes_of(tensor)[0], gates, node)
        axis_map.set_role(tensor, 0, "out")
