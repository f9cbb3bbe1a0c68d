"""Arguments by name and nested ones, results that keep their type: the whole way of a network."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import latency_tables
from pruner import Plan, PrunerError, apply, load, save, trace, verify
from pruner.graph.io_spec import Output, decode_spec, encode_spec
from pruner.graph.onnx.export import flatten_io, to_onnx
from pruner.surgery.verify import largest_difference

from ..networks import Nested

Pair = namedtuple("Pair", "first second")


class Odd(nn.Module):
    """Takes None, a number and a dictionary with a list; returns one of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 4)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, scale: int = 2, more: Any = None
    ) -> dict[str, Any]:
        hidden = torch.relu(self.a(x))
        y = self.b(hidden) * scale + more["shifts"][0]
        return {"pair": Pair(y, y.sum(1)), "none": None, 3: OrderedDict(z=[y.mean(1)])}


ARGUMENTS = (torch.randn(2, 6), None, 3, {"shifts": [torch.randn(2, 4)]})


@pytest.fixture(scope="module")
def odd():
    torch.manual_seed(0)
    model = Odd().eval()
    net = trace(model, ARGUMENTS, step=1)
    plan = Plan.random(net, macs=0.5, seed=0)
    assert set(net.dims) == {"a"} and verify(model, net, plan) < 1e-5
    return net, plan, apply(net, plan)


def test_results_keep_their_types_through_a_file(odd, tmp_path: Path) -> None:
    net, _, small = odd
    save(small, None, tmp_path)
    expected, got = small(*ARGUMENTS), load(tmp_path)(*ARGUMENTS)
    assert list(got) == ["pair", "none", 3] and got["none"] is None
    assert type(got["pair"]).__name__ == "Pair" and got["pair"]._fields == ("first", "second")
    assert type(got[3]) is OrderedDict and type(got[3]["z"]) is list
    for mine, theirs in zip(pytree.tree_leaves(got), pytree.tree_leaves(expected)):
        assert mine is theirs is None or torch.equal(mine, theirs)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch"])
def test_engines_run_probes_of_several_inputs(odd, engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    net, plan, _ = odd
    session = latency_tables.engine(engine).build(net.probe(plan.sizes(), plan.dropped_blocks()))
    session.run()
    found = {operator for step in session.profile(1).steps for operator in step.operators}
    session.close()
    assert "linear" in found


def test_onnx_takes_arguments_by_name_in_any_order() -> None:
    torch.manual_seed(0)
    x, other = torch.randn(2, 6), torch.randn(2, 4)
    net = trace(Nested().eval(), (), {"x": x, "other": other})
    model = to_onnx(net.module, (), {"other": other, "x": x}, dynamic_batch=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert [i.name for i in session.get_inputs()] == ["x", "other"]
    more = {"x": torch.randn(5, 6), "other": torch.randn(5, 4)}
    got = session.run(None, {name: value.numpy() for name, value in more.items()})
    for mine, theirs in zip(got, net.module(**more).values(), strict=True):
        assert np.allclose(mine, theirs.detach().numpy(), atol=1e-5)


def test_flat_is_the_same_function_of_tensors(odd) -> None:
    _, _, small = odd
    plain, tensors = flatten_io(small, ARGUMENTS)
    assert len(tensors) == 2 and not plain.training
    expected = [leaf for leaf in pytree.tree_leaves(small(*ARGUMENTS)) if leaf is not None]
    assert largest_difference(plain(*tensors), expected) == 0
    with pytest.raises(ValueError, match="takes 4 values"):
        flatten_io(small, ARGUMENTS[:2])


def test_a_class_of_the_models_own_source_comes_back_by_its_names() -> None:
    spec = decode_spec(
        ["class", "os.path.join", ["logits", "rest"], [None, ["list", "", None, [None]]]]
    )
    made = pytree.tree_unflatten([1, 2], spec)
    assert type(made) is Output and made.logits == 1 and made["rest"] == [2]
    assert decode_spec(encode_spec(spec)) == spec
    with pytest.raises(AttributeError, match="there are logits, rest"):
        _ = made.hidden


def test_a_file_names_no_module_to_import() -> None:
    code = (
        "import sys; from pruner.graph.io_spec import decode_spec;"
        "decode_spec(['class', 'this.Zen', ['a'], [None]]);"
        "decode_spec(['class', 'transformers.models.vit.modeling_vit.os', ['a'], [None]]);"
        "assert 'this' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_cannot_be_stored_is_named() -> None:
    class Strange:
        pass

    pytree.register_pytree_node(Strange, lambda _: ([0], None), lambda *_: Strange())
    with pytest.raises(PrunerError, match="Strange"):
        encode_spec(pytree.tree_structure(Strange()))
