"""Architectures of every kind, the whole way: traced, cut at random, compared with the masked
dense network, trained for a step, saved and loaded, some run by ONNX Runtime."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils import _pytree as pytree

import pruner
from pruner.gates import find_gates, gate_network
from pruner.graph.onnx.export import to_onnx
from pruner.structure.cost import count_macs, count_parameters
from pruner.surgery.verify import largest_difference

from .zoo import ZOO, build

EXPORTED = (
    "vit", "swin", "cait", "levit", "tinyvit", "edgenext", "convnext", "resnext", "res2net",
    "densenet", "shufflenet", "hf clip",
)  # fmt: skip
PRUNABLE = {"hf clip": 0.4}
"""Share of the parameters that widths alone can take away, where it is under a half: the streams
of both towers are outputs of the network."""


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.filterwarnings("ignore")
def test_an_architecture_works_the_whole_way(name, tmp_path):
    light = name in EXPORTED  # casts stand in the graph, so that it is traced as it is exported
    model, inputs = build(name, torch.float32 if light else torch.float64)
    net = pruner.trace(model, (), inputs)
    plan = pruner.Plan.random(net, macs=0.5, drop_blocks=0.2)
    assert (
        0.35 * count_macs(net)
        <= count_macs(net, plan.sizes(), plan.dropped_blocks())
        <= 0.5 * count_macs(net)
    )
    smallest = {dim.name: dim.options()[0] for dim in net.dims.values()}
    prunable = 1 - count_parameters(net, smallest) / count_parameters(net)
    assert prunable >= PRUNABLE.get(name, 0.5)

    assert pruner.verify(model, net, plan) < (1e-4 if light else 1e-10)
    small = pruner.apply(net, plan)
    left = sum(p.numel() for p in small.parameters())
    assert left == count_parameters(net, plan.sizes(), plan.dropped_blocks())
    inputs = {k: torch.randn_like(x) if x.is_floating_point() else x for k, x in inputs.items()}
    with torch.no_grad():
        expected = small(**inputs)
    pruner.save(small, plan, tmp_path)
    with torch.no_grad():
        assert largest_difference(pruner.load(tmp_path)(**inputs), expected) < (
            1e-5 if light else 1e-12
        )
    if light:
        assert_runs_elsewhere(small, inputs, expected)
    else:
        assert_gates_close(net, plan, inputs)
    assert_trains(small, inputs)


def floats(results):
    leaves = [leaf for leaf in pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]
    return [leaf for leaf in leaves if leaf.is_floating_point()]


def assert_gates_close(net, plan, inputs):
    gated, small = gate_network(net), pruner.apply(net, plan)
    find_gates(gated).set_plan(plan)
    with torch.no_grad():
        assert largest_difference(gated(**inputs), small(**inputs)) < 1e-10


def assert_trains(small, inputs):
    small.train()
    before = {name: p.detach().clone() for name, p in small.named_parameters()}
    sum(x.square().mean() for x in floats(small(**inputs))).backward()
    torch.optim.SGD(small.parameters(), lr=1e-3).step()
    changed = [n for n, p in small.named_parameters() if not torch.equal(p, before[n])]
    assert len(changed) >= 0.5 * len(before)
    assert all(torch.isfinite(p).all() for p in small.parameters())


def assert_runs_elsewhere(small, inputs, expected):
    onnxruntime = pytest.importorskip("onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = to_onnx(small, (), inputs)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds = {i.name: inputs[i.name].numpy() for i in session.get_inputs()}
    got = [torch.from_numpy(x) for x in session.run(None, feeds)]
    assert largest_difference([x for x in got if x.is_floating_point()], floats(expected)) < 1e-3
