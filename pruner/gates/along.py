"""Operators that work along an axis as a whole: the gates are the weights of its positions."""

from typing import Any

from torch import fx

from ..axes import COUNTS, EXTREMES, OBSERVERS, REDUCTIONS, SOFTMAXES, split_product
from ..graph import operator_arguments, operator_name
from .reductions import REDUCERS, gate_reduction
from .weighted import (
    gate_batch_norm,
    gate_group_norm,
    gate_layer_norm,
    gate_rms_norm,
    gate_softmax,
)
from .writer import GateWriter, handle


@handle("layer_norm", "rms_norm")
def gate_last_axes(writer: GateWriter, node: fx.Node) -> None:
    """Weigh the statistics of a normalization over the last axes."""
    args, x = operator_arguments(node), writer.axis_map.axes_of(node.args[0])
    dims = tuple(range(len(x) - len(args["normalized_shape"]), len(x)))
    gates = tuple(writer.find_gates(x, dims).items())
    if not gates:
        return
    if operator_name(node) == "rms_norm":
        writer.replace(node, gate_rms_norm, args["input"], gates, dims, args["weight"], args["eps"])
    else:
        writer.replace(
            node, gate_layer_norm, args["input"], gates, dims, args["weight"], args["bias"],
            args["eps"],
        )  # fmt: skip


@handle("group_norm")
def gate_groups(writer: GateWriter, node: fx.Node) -> None:
    """Weigh the statistics of groups by what each holds; groups that go as a whole pass."""
    args = operator_arguments(node)
    pieces = split_product(writer.axis_map.axes_of(args["input"])[1], args["num_groups"])
    gate = None if pieces is None else writer.reader.spread(pieces[1])
    if gate is not None:
        writer.replace(
            node, gate_group_norm, args["input"], gate, args["num_groups"], args["weight"],
            args["bias"], args["eps"],
        )  # fmt: skip


@handle("batch_norm", "instance_norm")
def gate_standardization(writer: GateWriter, node: fx.Node) -> None:
    """Weigh the statistics of weights that are standardized; those of channels pass."""
    args, x = operator_arguments(node), writer.axis_map.axes_of(node.args[0])
    worked = writer.axis_map.reduction_axes.get(node, ())
    gates = tuple(writer.find_gates(x, worked).items())
    if not gates:
        return
    if args["running_mean"] is not None or operator_name(node) == "instance_norm":
        raise writer.refuse(node, [x[d] for d in worked], "keeps statistics over it")
    writer.replace(
        node, gate_batch_norm, args["input"], gates, args["weight"], args["bias"], args["eps"]
    )


@handle(*SOFTMAXES)
def gate_exponentials(writer: GateWriter, node: fx.Node) -> None:
    """Weigh the sum that a softmax divides by."""
    x = writer.axis_map.axes_of(node.args[0])
    for dim in writer.axis_map.reduction_axes.get(node, ()):
        gates = tuple(writer.find_gates(x, (dim,)).items())
        if gates:
            args, log = operator_arguments(node), "log" in operator_name(node)
            writer.replace(node, gate_softmax, node.args[0], gates, dim, log, args.get("dtype"))


@handle(*(name for name in (*REDUCTIONS, *COUNTS, *EXTREMES) if name in REDUCERS))
def gate_reduced(writer: GateWriter, node: fx.Node) -> None:
    """Weigh what is reduced over."""
    dims = writer.axis_map.reduction_axes.get(node, ())
    gates = tuple(writer.find_gates(writer.axis_map.axes_of(node.args[0]), dims).items())
    if not gates:
        return writer.check_passed(node)
    args = operator_arguments(node)
    writer.replace(
        node, gate_reduction, node.args[0], gates, operator_name(node), dims,
        bool(args.get("keepdim")), _read_setting(args), args.get("dtype"),
        isinstance(node.meta["shape"], list),
    )  # fmt: skip


def _read_setting(args: dict[str, Any]) -> Any:
    """Return the order of a norm or the correction of a variance, where there is one."""
    if "correction" in args:
        return 1 if args["correction"] is None else args["correction"]
    if "unbiased" in args:
        return int(args["unbiased"])
    return args.get("ord", args.get("p"))


@handle(*OBSERVERS)
def refuse_observers(writer: GateWriter, node: fx.Node) -> None:
    """Refuse what takes the range of its input, in which closed positions lie as well."""
    axes = [axis for source in node.all_input_nodes for axis in writer.axis_map.all_axes(source)]
    raise writer.refuse(node, axes, "observes the range of all that it quantizes")
