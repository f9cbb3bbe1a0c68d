"""Models without weights: small, the same from the same, and whole again over there."""

from __future__ import annotations

import gzip
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from latency_tables.devices.light_model import pack_model
from latency_tables.devices.runner.models import load_model


def model(**weights: np.ndarray) -> bytes:
    """x @ a + b, with whatever else is given as unused initializers."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["y"], "mm/y"),
        helper.make_node("Add", ["y", "b"], ["z"], "add/z"),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 64])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [4, 96])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    return made.SerializeToString()


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "a": random.standard_normal((64, 96)).astype(np.float32) * 3 + 1,
        "b": np.ones(96, np.float32),
        "variance": random.uniform(0.5, 1.5, 2000).astype(np.float32),
        "half": random.standard_normal((50, 50)).astype(np.float16),
        "mask": np.triu(np.full((64, 64), -np.inf, np.float32), 1),
        "table": np.arange(4096, dtype=np.int64),
        "whole": random.integers(-100, 101, (64, 64), dtype=np.int8),
    }


def unpack(data: bytes, folder) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / "m.gz").write_bytes(data)
    whole, feed = load_model(str(folder), "m.gz")
    proto = onnx.load_model_from_string(whole)
    onnx.checker.check_model(proto)
    return proto, feed


def test_weights_are_made_again_and_what_means_something_stays(weights, tmp_path) -> None:
    x = np.random.default_rng(1).standard_normal((4, 64)).astype(np.float32)
    data = pack_model(model(**weights), [x])
    proto, feed = unpack(data, tmp_path)
    found = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert set(found) == set(weights)
    for name, before in weights.items():
        assert found[name].dtype == before.dtype and found[name].shape == before.shape
    for name in ("b", "mask", "table"):  # constants, as they were
        assert np.array_equal(found[name], weights[name])
    assert found["a"].mean() == pytest.approx(1, abs=0.2)
    assert found["a"].std() == pytest.approx(3, rel=0.1)
    assert found["variance"].min() >= 0.5 and found["variance"].max() <= 1.5
    assert found["whole"].min() >= -100 and found["whole"].max() <= 100
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    assert np.isfinite(session.run(None, feed)[0]).all()


def test_a_light_model_is_small_and_the_same_from_the_same(tmp_path) -> None:
    big = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)
    more = {f"w{i}": np.random.default_rng(i).random(50_000, np.float32) for i in range(9)}
    whole = model(a=big, b=np.ones(96, np.float32), **more)
    x = np.zeros((4, 64), np.float32)
    data = pack_model(whole, [x])
    assert len(data) < 2000 < 1_800_000 < len(whole)
    assert data == pack_model(whole, [x])
    proto, _ = unpack(data, tmp_path)
    assert unpack(data, tmp_path)[0] == proto


def test_weights_may_be_shipped(weights, tmp_path) -> None:
    whole = model(**weights)
    x = np.zeros((4, 64), np.float32)
    proto, feed = unpack(pack_model(whole, [x], with_weights=True), tmp_path)
    before = onnx.load_model_from_string(whole).graph.initializer
    assert list(proto.graph.initializer) == list(before)
    assert np.array_equal(feed["x"], x)


def test_numbers_that_are_looked_up_stay_as_they_are(tmp_path) -> None:
    ids = np.random.default_rng(0).integers(0, 30_000, (8, 512))
    graph = helper.make_graph(
        [helper.make_node("Identity", ["ids"], ["same"])], "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [8, 512])],
        [helper.make_tensor_value_info("same", TensorProto.INT64, [8, 512])],
    )  # fmt: skip
    data = pack_model(helper.make_model(graph).SerializeToString(), [ids])
    assert json.loads(gzip.decompress(data).partition(b"\n")[0])["weights"] == []
    assert np.array_equal(unpack(data, tmp_path)[1]["ids"], ids)
