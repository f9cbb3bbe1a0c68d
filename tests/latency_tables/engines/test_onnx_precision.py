"""ONNX models in half precision and quantized, against what they were made of."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from latency_tables.engines.onnx_precision import cast_model, quantize_model, to_bf16

from ..nets import tiny


def _model():
    """y = resize(x @ w + 1) by a Constant node, cast to single precision at the end."""
    weight = numpy_helper.from_array(np.arange(16, dtype=np.float32).reshape(4, 4), "w")
    scales = numpy_helper.from_array(np.array([1, 2], dtype=np.float32), "scales")
    one = numpy_helper.from_array(np.float32(1), "one_value")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="m/MatMul"),
        helper.make_node("Constant", [], ["one"], value=one),
        helper.make_node("Add", ["m", "one"], ["a"], name="a/Add"),
        helper.make_node("Cast", ["a"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Resize", ["f", "", "scales"], ["y"], mode="nearest"),
    ]
    value = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])]
    graph = helper.make_graph(nodes, "g", value, out, [weight, scales])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 1e-3), ("bf16", 1e-2)])
def test_a_cast_model_computes_the_same_in_half_precision(precision, tolerance):
    from onnx.reference import ReferenceEvaluator

    model = _model()
    x = np.array([[0.5, -1, 2, 3]], dtype=np.float32)
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    half = onnx.load_model_from_string(cast_model(model.SerializeToString(), precision))
    onnx.checker.check_model(half, full_check=True)
    kind = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[precision]
    assert {v.type.tensor_type.elem_type for v in (*half.graph.input, *half.graph.output)} == {kind}
    types = {t.name: t.data_type for t in half.graph.initializer}
    assert types == {"w": kind, "scales": TensorProto.FLOAT}
    dtype = numpy_helper.to_array(half.graph.initializer[0]).dtype
    got = ReferenceEvaluator(half).run(None, {"x": x.astype(dtype)})[0].astype(np.float32)
    np.testing.assert_allclose(got, expected, rtol=tolerance)


def test_bf16_rounds_as_torch_does():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    ours = to_bf16(values).view(np.int16)
    theirs = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy()
    assert (ours == theirs).all()


def test_a_quantized_model_is_close_to_the_original():
    import onnxruntime

    probe = tiny().probe({"a": 24})
    model = probe.onnx()
    x = probe.inputs[0].numpy()
    name = onnx.load_model_from_string(model).graph.input[0].name
    for symmetric in (False, True):
        small = quantize_model(model, [{name: x}], symmetric=symmetric)
        assert len(small) < 0.5 * len(model)
        out = [
            onnxruntime.InferenceSession(m, providers=["CPUExecutionProvider"]).run(None, {name: x})
            for m in (model, small)
        ]
        assert np.abs(out[0][0] - out[1][0]).max() < 0.1 * np.abs(out[0][0]).max()
