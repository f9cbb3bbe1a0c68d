"""The pass that makes transpositions written as reshapes the one operator that they are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

    Shape = tuple[int | str, ...]


def merge_transpositions(model: onnx.ModelProto) -> None:
    """Merge Reshape, Transpose, Reshape that swap a value's last two axes, in place.

    So the exporter turns the keys of attention, with numbers that are right for one width only.
    Runtimes take a plain transposition into the product that reads it.
    """
    graph = model.graph
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return  # what its branches read is not looked at
    shapes = _infer_shapes(model)
    writer = {name: place for place, node in enumerate(graph.node) for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(v.name for v in graph.output)
    dead = set()
    for place, last in enumerate(graph.node):
        turn = writer.get(last.input[0]) if last.op_type == "Reshape" else None
        turned = () if turn is None else graph.node[turn].input  # a constant's node has none
        fold = writer.get(turned[0]) if turned else None
        if turn is None or fold is None:
            continue
        first, middle = graph.node[fold], graph.node[turn]
        if (first.op_type, middle.op_type) != ("Reshape", "Transpose"):
            continue
        before, folded, after = (
            shapes.get(name) for name in (first.input[0], middle.input[0], last.output[0])
        )
        alone = readers[first.output[0]] == readers[middle.output[0]] == 1
        if (
            before
            and folded
            and alone
            and _swaps_last_axes(before, folded, list(_permutation(middle)), after)
        ):
            middle.input[0], middle.output[0] = first.input[0], last.output[0]
            _permutation(middle)[:] = [*range(len(before) - 2), len(before) - 1, len(before) - 2]
            dead |= {fold, place}
    if dead:
        for place in sorted(dead, reverse=True):
            del graph.node[place]
        _remove_unread(graph)


def _swaps_last_axes(before: Shape, folded: Shape, perm: list[int], after: Shape | None) -> bool:
    """Whether all axes but two are folded into one, those swapped, and the others unfolded."""
    *front, rows, columns = before
    return (
        len(front) > 0
        and "" not in before  # a size of which nothing is known
        and perm == [0, 2, 1]
        and folded[1:] == (rows, columns)
        and after == (*front, columns, rows)
    )


def _permutation(transpose: Any) -> Any:
    return next(a.ints for a in transpose.attribute if a.name == "perm")


def _infer_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Infer the sizes of every value, and the names of those that are free."""
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = model.graph
    light.graph.node.extend(graph.node)
    light.graph.input.extend(graph.input)
    light.graph.output.extend(graph.output)
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT64:  # may be the numbers of a shape
            light.graph.initializer.append(tensor)
        else:  # of a weight the shape is enough
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    found = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    return {
        v.name: tuple(
            d.dim_value if d.HasField("dim_value") else d.dim_param
            for d in v.type.tensor_type.shape.dim
        )
        for v in (*found.input, *found.value_info, *found.output)
    }


def _remove_unread(graph: Any) -> None:
    """Remove what computed the numbers of reshapes that are no longer there."""
    unread = [0]
    while unread:
        read = {name for node in graph.node for name in node.input}
        read |= {value.name for value in graph.output}
        unread = [i for i, node in enumerate(graph.node) if not read & set(node.output)]
        for place in reversed(unread):
            del graph.node[place]
    written = {name for node in graph.node for name in node.output}
    for values in (graph.initializer, graph.value_info):
        for place in reversed(range(len(values))):
            if values[place].name not in read | written:
                del values[place]
