"""Export of reshapes whose value comes from an operator without inputs."""

import onnx

from pruner.graph.onnx.transpose_pass import merge_transpositions


def test_a_reshape_of_a_constant_is_left_alone() -> None:
    helper, INT64, FLOAT = onnx.helper, onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Constant", [], ["c"], value=helper.make_tensor("v", FLOAT, [4], [1] * 4)),
        helper.make_node("Reshape", ["c", "shape"], ["r"]),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", FLOAT, [2, 2])],
        [helper.make_tensor_value_info("y", FLOAT, [2, 2])],
        [helper.make_tensor("shape", INT64, [2], [2, 2])],
    )  # fmt: skip
    model = helper.make_model(graph)
    before = model.SerializeToString()
    merge_transpositions(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(model)
