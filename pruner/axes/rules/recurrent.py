"""Recurrent layers: the gates of a cell share its hidden width, and so do all layers of a stack."""

from torch import fx

from ...graph import operator_arguments, operator_name
from ..algebra import UNIT, Atom, Axis, concatenate, freeze_axes, multiply
from ..axis_map import AxisMap, Result
from .base import rule

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule(*GATES)
def recurrent(axis_map: AxisMap, node: fx.Node) -> Result:
    """Relate x [batch, time, in] or [time, batch, in] and weights [gates * hidden, in or state].

    The state is the hidden width, or what an LSTM's projection [state, hidden] makes of it.
    A silenced hidden unit stays at zero from a zero start: its gates multiply zero.
    """
    args, name = operator_arguments(node), operator_name(node)
    if "input" not in args or args.get("has_biases") is None:
        return axis_map.freeze_node(node, f"{name} over packed sequences")
    x, params = axis_map.axes_of(args["input"]), list(args["params"])
    directions = 2 if args["bidirectional"] else 1
    each, cells = 4 if args["has_biases"] else 2, directions * args["num_layers"]
    projected = name == "lstm" and len(params) == (each + 1) * cells
    if len(params) != (each + projected) * cells:
        return axis_map.freeze_node(node, f"{name} with other weights than a layer's")
    freeze_axes([x[-2 if args["batch_first"] else 0]], "time")
    hidden: Axis = axis_map.new_axis(axis_map.shape_of(params[0])[0] // GATES[name])
    state = axis_map.new_axis(axis_map.shape_of(params[1])[-1]) if projected else hidden
    out = concatenate([state] * directions)
    for cell in range(cells):
        own = params[cell * (each + projected) :][: each + projected]
        read = (x[-1] if cell < directions else out, state)
        _match_parameters(axis_map, node, own[:each], read, hidden)
        for tensor in own[each:]:  # [state, hidden]
            for i, (axis, role) in enumerate(((state, "out"), (hidden, "in"))):
                axis_map.unify(axis_map.axes_of(tensor)[i], axis, node)
                axis_map.set_role(tensor, i, role)
    widths = (state, hidden)[: len(node.meta["shape"]) - 1]
    states = args["hx"] if isinstance(args["hx"], list | tuple) else [args["hx"]]
    first = axis_map.axes_of(states[0])
    for given, width in zip(states, widths):
        for mine, theirs in zip(axis_map.axes_of(given), [*first[:-1], width]):
            axis_map.unify(mine, theirs, node)
    return [[*x[:-1], out], *[[*first[:-1], width] for width in widths]]


def _match_parameters(
    axis_map: AxisMap, node: fx.Node, params: list[fx.Node], read: tuple[Axis, Axis], hidden: Axis
) -> None:
    """Match the weights of input and state, and their biases, of one layer and direction."""
    count = GATES[operator_name(node)]
    gates = multiply((Atom(count, "the gates of a cell") if count > 1 else UNIT, hidden))
    for tensor, into in zip(params, read):
        axis_map.unify(axis_map.axes_of(tensor)[0], gates, node)
        axis_map.unify(axis_map.axes_of(tensor)[1], into, node)
        axis_map.set_role(tensor, 0, "out")
        axis_map.set_role(tensor, 1, "in")
    for tensor in params[2:]:
        axis_map.unify(axis_map.axes_of(tensor)[0], gates, node)
        axis_map.set_role(tensor, 0, "out")
