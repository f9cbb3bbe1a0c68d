"""ONNX models of probes: exported once for a structure, then only the weights' shapes change."""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn

from .export import to_onnx

if TYPE_CHECKING:
    import onnx

_KEPT = 16
_templates: OrderedDict[str, onnx.ModelProto | None] = OrderedDict()
_SMALL = 64  # elements; constants up to here are shapes and scalars, and stay as they are
_FOLDED_BIAS = ".weight_bias"  # what the exporter's folding of a batch normalization leaves behind


def probe_onnx(module: fx.GraphModule, inputs: tuple[Any, ...]) -> bytes:
    """The network as a serialized ONNX model **for timing**: its weights are random.

    A network whose graph equals that of an earlier call in all but widths takes over its ONNX
    graph, with weights of the new shapes; that takes milliseconds where an export takes seconds.
    Any other network, and any that does not pass ONNX's own shape inference, is exported.
    """
    key = _signature(module, inputs)
    if _templates.get(key) is not None:
        _templates.move_to_end(key)
        model = _filled(_templates[key], module)
        if model is not None:
            return model
    exported = to_onnx(_with_random_weights(module), inputs)
    if key not in _templates:  # a template that failed once is not made again
        _templates[key] = _template(exported, module)
        while len(_templates) > _KEPT:
            _templates.popitem(last=False)
    else:
        _templates[key] = None
    data: bytes = exported.SerializeToString()
    return data


def _with_random_weights(module: fx.GraphModule) -> fx.GraphModule:
    """A copy without two equal tensors: the exporter would make one of them, and a fresh batch
    normalization's zero shift would vanish, though a trained one's does not."""
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


def _signature(module: fx.GraphModule, inputs: tuple[Any, ...]) -> str:
    """Equal for graphs that differ in the widths of their layers only."""
    index = {node: i for i, node in enumerate(module.graph.nodes)}
    lines = [str([(tuple(x.shape), str(x.dtype)) for x in inputs])]
    for node in module.graph.nodes:
        args = fx.node.map_arg((node.args, node.kwargs), lambda n: f"%{index[n]}")
        layer = _layer(module.get_submodule(str(node.target))) if node.op == "call_module" else ""
        lines.append(f"{node.name}|{node.op}|{node.target}|{args}|{layer}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _layer(layer: nn.Module) -> str:
    if isinstance(layer, nn.modules.conv._ConvNd):
        group = "all" if 1 < layer.groups == layer.in_channels else str(layer.groups)
        fixed = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.padding_mode)
        return f"{type(layer).__name__}{fixed}{group}{layer.bias is not None}"
    if isinstance(layer, nn.Linear):
        return f"Linear{layer.bias is not None}"
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return f"{type(layer).__name__}{layer.eps}{layer.affine}{layer.track_running_stats}"
    return repr(layer)


def _template(model: onnx.ModelProto, module: fx.GraphModule) -> onnx.ModelProto | None:
    """The model without its weights; ``None`` where one of them is not known by its name."""
    import onnx

    state = module.state_dict()
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        if _shape(tensor.name, state) is not None:
            if tensor.data_type != onnx.TensorProto.FLOAT:
                return None
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
        elif int(np.prod(tensor.dims)) > _SMALL:
            return None
    del light.graph.value_info[:]
    _free_flatten(light, module)
    return light


def _free_flatten(model: onnx.ModelProto, module: fx.GraphModule) -> None:
    """``flatten(x, 1)`` is exported as a reshape to numbers; here it follows its input."""
    from onnx import numpy_helper

    flat = {
        n.name
        for n in module.graph.nodes
        if "flatten" in str(n.target) and tuple(n.args[1:]) in ((1,), (1, -1)) and not n.kwargs
    }
    lengths = {t.name: int(np.prod(t.dims)) for t in model.graph.initializer}
    free = "probe_export.keep_first_flatten_rest"
    for node in model.graph.node:
        if (
            node.op_type == "Reshape"
            and node.name.split("/")[0] in flat
            and lengths.get(node.input[1]) == 2
        ):
            node.input[1] = free
            del node.attribute[:]  # allowzero, under which 0 would not mean "as it was"
    if any(free in node.input for node in model.graph.node):
        shape = np.array([0, -1], dtype=np.int64)
        model.graph.initializer.append(numpy_helper.from_array(shape, free))


def _filled(template: onnx.ModelProto | None, module: fx.GraphModule) -> bytes | None:
    """The template with random weights of the module's shapes; ``None`` where it does not fit."""
    import onnx

    assert template is not None
    model = onnx.ModelProto()
    model.CopyFrom(template)
    state, layers = module.state_dict(), dict(module.named_modules())
    for node in model.graph.node:
        layer = layers.get(node.input[1].removesuffix(".weight")) if len(node.input) > 1 else None
        if node.op_type == "Conv" and isinstance(layer, nn.modules.conv._ConvNd):
            for attribute in node.attribute:
                if attribute.name == "group":
                    attribute.i = layer.groups
    random = np.random.default_rng(0)
    shapes = {t.name: _shape(t.name, state) for t in model.graph.initializer}
    for tensor in model.graph.initializer:
        shape = shapes[tensor.name]
        if shape is not None:
            tensor.dims[:] = shape
    if not _consistent(model, {name for name, shape in shapes.items() if shape is not None}):
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


def _shape(name: str, state: dict[str, Any]) -> tuple[int, ...] | None:
    if name in state:
        return tuple(state[name].shape)
    weight = state.get(name.removesuffix("_bias")) if name.endswith(_FOLDED_BIAS) else None
    return None if weight is None else (int(weight.shape[0]),)


def _consistent(model: onnx.ModelProto, weights: set[str]) -> bool:
    """Whether shape inference, which knows every operator, finds the shapes to fit together."""
    import onnx

    light = onnx.ModelProto()
    light.CopyFrom(model)
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
    return found == expected
