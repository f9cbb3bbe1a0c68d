"""Models of probes: exported once for a structure, then only the weights' shapes change."""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from ..linear_layers import get_layer
from ..ops import operator_name
from ..program import named_tensors
from ..torch_internals import BatchNorm, Convolution
from .export import to_onnx

if TYPE_CHECKING:
    import onnx

_KEPT = 16
_templates: OrderedDict[str, _Template | None] = OrderedDict()
_SMALL = 64  # elements; constants up to here are shapes and scalars, and stay as they are
# Operators that are told widths by a list of numbers, and ONNX's own that have it as an input.
_NUMBERED = {"reshape": "Reshape", "view": "Reshape", "split_with_sizes": "Split"}
_FOLDED_BIAS = ".weight_bias"  # what the exporter's folding of a batch normalization leaves behind


@dataclass(frozen=True)
class _Template:
    """A model without its weights, and where the shapes come from of those that have other names.

    Attributes:
        model: The ONNX model.
        axes: Weight of the model -> for each of its axes a tensor of the module and its axis that
            is as long, or a length.
    """

    model: onnx.ModelProto
    axes: Mapping[str, tuple[tuple[str, int] | int, ...]]


def build_probe_onnx(module: fx.GraphModule, inputs: tuple[Any, ...]) -> bytes:
    """Build a serialized ONNX model of a network **for timing**: its weights are random.

    A network whose graph equals that of an earlier call in all but widths takes over its ONNX
    graph, with weights and reshapes of the new widths; that takes milliseconds where an export
    takes seconds.
    Any other network, and any that does not pass ONNX's own shape inference, is exported.
    """
    key = _structure_key(module, inputs)
    template = _templates.get(key)
    if template is not None:
        _templates.move_to_end(key)
        model = _fill_template(template, module)
        if model is not None:
            return model
    filled = _randomize_weights(module)
    exported = to_onnx(filled, inputs)
    if key not in _templates:  # a template that failed once is not made again
        _templates[key] = _make_template(exported, filled)
        while len(_templates) > _KEPT:
            _templates.popitem(last=False)
    else:
        _templates[key] = None
    data: bytes = exported.SerializeToString()
    return data


def _randomize_weights(module: fx.GraphModule) -> fx.GraphModule:
    """Copy a network so that no two tensors are equal.

    The exporter would make one of them, and a fresh batch normalization's zero shift would vanish,
    though a trained one's does not.
    """
    module = copy.deepcopy(module)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                scale = (2 / max(tensor[0].numel(), 1)) ** 0.5 if tensor.dim() > 1 else 1.0
                values = torch.rand(tensor.shape, generator=random, dtype=torch.float32) + 0.5
                sign = torch.randn(tensor.shape, generator=random).sign() if tensor.dim() > 1 else 1
                tensor.copy_(values * scale * sign)
    return module


def _structure_key(module: fx.GraphModule, inputs: tuple[Any, ...]) -> str:
    """Return a digest that is equal for graphs that differ in the widths of layers only."""
    index = {node: i for i, node in enumerate(module.graph.nodes)}
    lines = [str([(tuple(x.shape), str(x.dtype)) for x in inputs])]
    for node in module.graph.nodes:
        own, numbers = node.args, _width_numbers(node)
        if numbers is not None:
            free = ["width" if isinstance(n, int) and n >= 0 else n for n in numbers]
            own = (own[0], free, *own[2:])
        args = fx.node.map_arg((own, node.kwargs), lambda n: f"%{index[n]}")
        layer = get_layer(module, node)
        key = "" if layer is None else _layer_key(layer)
        lines.append(f"{node.name}|{node.op}|{node.target}|{args}|{key}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _width_numbers(node: fx.Node) -> list[Any] | None:
    """Return the numbers that tell an operator widths, nodes and -1 among them; None: no such."""
    if node.op != "call_function" or operator_name(node) not in _NUMBERED or len(node.args) < 2:
        return None
    numbers = node.args[1]
    return list(numbers) if isinstance(numbers, (list, tuple)) else None


def _layer_key(layer: nn.Module) -> str:
    if isinstance(layer, Convolution):
        group = "all" if 1 < layer.groups == layer.in_channels else str(layer.groups)
        fixed = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.padding_mode)
        return f"{type(layer).__name__}{fixed}{group}{layer.bias is not None}"
    if isinstance(layer, nn.Linear):
        return f"Linear{layer.bias is not None}"
    if isinstance(layer, BatchNorm):
        return f"{type(layer).__name__}{layer.eps}{layer.affine}{layer.track_running_stats}"
    if isinstance(layer, nn.LayerNorm):
        axes, affine = len(layer.normalized_shape), layer.elementwise_affine
        return f"LayerNorm{axes}{layer.eps}{affine}{layer.bias is not None}"
    return repr(layer)


def _make_template(model: onnx.ModelProto, module: fx.GraphModule) -> _Template | None:
    """Strip a model of its weights; None where it is not known what one of them is made of."""
    import onnx
    from onnx import numpy_helper

    state, others = _split_tensors(module)
    light = copy.deepcopy(model)
    axes: dict[str, tuple[tuple[str, int] | int, ...]] = {}
    for tensor in light.graph.initializer:
        if tensor.name in others:
            continue
        if _weight_shape(tensor.name, state) is None:
            if int(np.prod(tensor.dims)) <= _SMALL:
                continue
            found = _find_axes(numpy_helper.to_array(tensor), state)
            if found is None:
                return None
            axes[tensor.name] = found
        if tensor.data_type != onnx.TensorProto.FLOAT:
            return None
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    del light.graph.value_info[:]
    _free_flatten(light, module)
    return _Template(light, axes)


def _find_axes(
    values: NDArray[Any], state: Mapping[str, torch.Tensor]
) -> tuple[tuple[str, int] | int, ...] | None:
    """Find the tensor that a constant has the values of, and the axes that its own run along.

    The exporter folds what is done to weights alone: it transposes them, or picks of them (the
    biases of relative positions). No two tensors of the module have values in common, so these
    tell. An axis that picks here and there has a length of its own. ``None``: of no single tensor.
    """
    lines = [values[(0,) * axis + (slice(None),) + (0,) * (values.ndim - axis - 1)]
             for axis in range(values.ndim)]  # fmt: skip
    for name, tensor in state.items():
        own = tensor.detach().numpy()
        for place in np.argwhere(own == values.flat[0]).tolist():
            along = [_find_line(line, own, place) for line in lines]
            if all(
                axis is not None or np.isin(line, own).all() for axis, line in zip(along, lines)
            ):
                return tuple(
                    len(line) if axis is None else (name, axis) for axis, line in zip(along, lines)
                )
    return None


def _find_line(line: NDArray[Any], own: NDArray[Any], place: list[int]) -> int | None:
    """Find the axis of ``own`` that is this line, where it goes through that place."""
    for axis in range(own.ndim):
        index: list[Any] = [*place]
        index[axis] = slice(None)
        if np.array_equal(own[tuple(index)], line):
            return axis
    return None


def _split_tensors(
    module: fx.GraphModule,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return floating tensors by name, and others, tied and unsaved ones too."""
    state = named_tensors(module, tied=True)
    floating = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    return floating, {name: tensor for name, tensor in state.items() if name not in floating}


def _free_flatten(model: onnx.ModelProto, module: fx.GraphModule) -> None:
    """Let ``flatten(x, start)``, exported as a reshape to numbers, follow its input, in place."""
    from onnx import numpy_helper

    starts = {
        n.name: n.args[1]
        for n in module.graph.nodes
        if "flatten" in str(n.target) and n.args[2:] in ((), (-1,)) and not n.kwargs
        if len(n.args) > 1 and isinstance(n.args[1], int) and n.args[1] >= 0
    }
    lengths = {t.name: int(np.prod(t.dims)) for t in model.graph.initializer}
    for node in model.graph.node:
        start = starts.get(node.name.partition("/")[0])
        if start is None or node.op_type != "Reshape" or lengths.get(node.input[1]) != start + 1:
            continue
        node.input[1] = f"probe_export.flatten/{node.name}"
        del node.attribute[:]  # allowzero, under which 0 would not mean "as it was"
        shape = np.array([0] * start + [-1], dtype=np.int64)
        model.graph.initializer.append(numpy_helper.from_array(shape, node.input[1]))


def _fill_template(template: _Template, module: fx.GraphModule) -> bytes | None:
    """Fill a template with random weights of the module's shapes; None where it does not fit."""
    from onnx import numpy_helper

    model = copy.deepcopy(template.model)
    (state, others), layers = _split_tensors(module), dict(module.named_modules())
    for node in model.graph.node:
        layer = layers.get(node.input[1].removesuffix(".weight")) if len(node.input) > 1 else None
        if node.op_type == "Conv" and isinstance(layer, Convolution):
            for attribute in node.attribute:
                if attribute.name == "group":
                    attribute.i = layer.groups
    if not _renumber(model, module):
        return None
    random = np.random.default_rng(0)
    shapes = {t.name: _weight_shape(t.name, state) for t in model.graph.initializer}
    for name, axes in template.axes.items():
        shapes[name] = tuple(
            axis if isinstance(axis, int) else int(state[axis[0]].shape[axis[1]]) for axis in axes
        )
    for tensor in model.graph.initializer:
        shape = shapes[tensor.name]
        if tensor.name in others:
            array = others[tensor.name].numpy()
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        elif shape is not None:
            tensor.dims[:] = shape
    if not _shapes_fit(model, {name for name, shape in shapes.items() if shape is not None}):
        return None
    for tensor in model.graph.initializer:
        shape = shapes[tensor.name]
        if shape is not None:
            # Of a size that neither explodes nor fades over many layers.
            fan_in = max(int(np.prod(shape[1:])), 1)
            scale = np.float32(np.sqrt(2 / fan_in))
            values = random.standard_normal(shape, dtype=np.float32) * scale
            tensor.raw_data = np.abs(values).tobytes() if len(shape) == 1 else values.tobytes()
    data: bytes = model.SerializeToString()
    return data


def _renumber(model: onnx.ModelProto, module: fx.GraphModule) -> bool:
    """Give every reshape and split the module's numbers; False where one has no place for them.

    What the module computes of its inputs' sizes stays as it was.
    """
    from onnx import numpy_helper

    told = {node.name: node for node in module.graph.nodes if _width_numbers(node) is not None}
    constants = {t.name: t for t in model.graph.initializer}
    # The exporter makes splits late, and does not say of what; they are in the graph's order.
    splits = [node for node in told.values() if _NUMBERED[operator_name(node)] == "Split"]
    if splits and len(splits) != sum(node.op_type == "Split" for node in model.graph.node):
        return False
    for node in model.graph.node:
        late = splits and node.op_type == "Split"
        own = splits.pop(0) if late else told.get(node.name.partition("/")[0])
        if own is None or node.op_type != _NUMBERED[operator_name(own)]:
            continue
        numbers = _width_numbers(own) or []
        before = constants.get(node.input[1]) if len(node.input) > 1 else None
        if before is None or list(before.dims) != [len(numbers)]:
            return False
        values = [
            number if isinstance(number, int) else int(old)
            for number, old in zip(numbers, numpy_helper.to_array(before))
        ]
        # Of its own: equal numbers of several operators are one constant, and may differ now.
        node.input[1] = f"probe_export.numbers/{node.name}"
        array = np.array(values, dtype=np.int64)
        model.graph.initializer.append(numpy_helper.from_array(array, node.input[1]))
    return True


def _weight_shape(name: str, state: dict[str, Any]) -> tuple[int, ...] | None:
    if name in state:
        return tuple(state[name].shape)
    weight = state.get(name.removesuffix("_bias")) if name.endswith(_FOLDED_BIAS) else None
    return None if weight is None else (int(weight.shape[0]),)


def _shapes_fit(model: onnx.ModelProto, weights: set[str]) -> bool:
    """Whether shape inference, which knows every operator, finds the shapes to fit together."""
    import onnx

    light = copy.deepcopy(model)
    expected = [value.type.tensor_type.shape.SerializeToString() for value in light.graph.output]
    for value in light.graph.output:
        value.type.tensor_type.ClearField("shape")
    constants = [t for t in light.graph.initializer if t.name not in weights]
    for tensor in light.graph.initializer:
        if tensor.name in weights:  # as an input, its shape is enough
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    del light.graph.initializer[:]
    light.graph.initializer.extend(constants)
    try:
        inferred = onnx.shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return False
    found = [value.type.tensor_type.shape.SerializeToString() for value in inferred.graph.output]
    return found == expected and _reshapes_fit(inferred)


def _reshapes_fit(inferred: onnx.ModelProto) -> bool:
    """Whether reshapes keep the number of elements, which shape inference takes for granted."""
    graph = inferred.graph
    count = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            count[value.name] = int(np.prod([dim.dim_value for dim in dims], dtype=np.int64))
    pairs = [(n.input[0], n.output[0]) for n in graph.node if n.op_type == "Reshape"]
    return all(count[a] == count[b] for a, b in pairs if a in count and b in count)
