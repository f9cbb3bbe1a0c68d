"""Cells as networks of their own compute what they compute in the whole network."""

from __future__ import annotations

import pytest
import torch
from torch import fx

from benchmarks.alone import split_graph, split_onnx
from tests.pruner.networks import Attention, Dense, Plain, Residual
from tests.pruner.problem.test_formulate import traced


@pytest.mark.parametrize("kind", [Plain, Residual, Dense, Attention])
def test_a_part_computes_what_its_operators_do_in_the_whole(kind):
    net = traced(kind, 2)
    smaller = {name: options[len(options) // 2] for name, options in net.sizes().items()}
    probe = net.probe(smaller)
    values = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n):
            values[n.name] = super().run_node(n)
            return values[n.name]

    Recorder(probe.module).run(*probe.inputs)
    part, ran = split_graph(probe), 0
    for cell in dict.fromkeys(probe.cell_of.values()):
        own = part(cell)
        if own is None:
            continue
        nodes = {n.name for n in probe.module.graph.nodes if probe.cell_of.get(n.name) == cell}
        (output,) = (n for n in own.module.graph.nodes if n.op == "output")
        assert {n.name for n in own.module.graph.nodes if n.op == "call_function"} <= nodes
        names = [n.name for n in output.all_input_nodes]
        assert names and set(names) <= nodes
        for name, found in zip(names, own.module(*own.inputs), strict=True):
            pairs = (
                zip([found], [values[name]])
                if isinstance(found, torch.Tensor)
                else zip(found, values[name], strict=True)
            )
            assert all(torch.equal(one, other) for one, other in pairs), (cell, name)
        ran += 1
    assert ran >= 4


def test_a_part_of_an_onnx_graph_runs_alone():
    ort = pytest.importorskip("onnxruntime")
    net = traced(Residual, 2)
    probe = net.probe({})
    part, ran = split_onnx(probe), 0
    for cell in dict.fromkeys(probe.cell_of.values()):
        own = part(cell)
        if own is not None:
            session = ort.InferenceSession(own.onnx(), providers=["CPUExecutionProvider"])
            given = {i.name: x.numpy() for i, x in zip(session.get_inputs(), own.inputs)}
            shapes = [x.shape for x in session.run(None, given)]
            assert shapes and all(len(shape) >= 2 for shape in shapes)
            ran += 1
    assert ran >= 4
