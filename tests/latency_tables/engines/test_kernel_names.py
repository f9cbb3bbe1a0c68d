"""From the names of kernels back to operators."""

from __future__ import annotations

import pytest

from latency_tables.engines.kernel_names import find_operators


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("relu_1/relu_1_nchwc", ("relu_1",)),  # ONNX Runtime's blocked convolution
        ("gone/relu_1_nchwc", ()),  # the rest of a name is no operator
        ("logits_nchwc", ("linear",)),  # an output of the network keeps its own name
        ("logits_2_nchwc", ("conv1",)),
        ("fused conv1/Conv relu_1/Relu", ("conv1", "relu_1")),
        ("conv1/x,relu_1/y", ("conv1", "relu_1")),  # OpenVINO's list of fused layers
        ("conv1/Conv + relu_1/Relu", ("conv1", "relu_1")),  # TensorRT's
        ("layer1_0_conv1/Conv", ("layer1_0_conv1",)),
        ("linear/MatMul/MatMulAddFusion", ("linear",)),
        ("ReorderOutput_token_8", ()),
        ("x_abcd_acdb_conv1/Conv", ()),  # a change of layout, not the convolution
    ],
)
def test_kernel_names_lead_to_operators(name, operators):
    known = {"relu", "relu_1", "conv1", "layer1_0_conv1", "linear", "x"}
    outputs = {"logits": "linear", "logits_2": "conv1"}
    assert find_operators(name, known, outputs) == operators
