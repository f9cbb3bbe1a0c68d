"""One cell of a network as a network of its own, as other latency tables time their layers."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from latency_tables import Engine, Probe
from latency_tables.timing import Clock
from pruner.graph import build_probe_onnx

_RUNS, _BURST, _SECONDS = 15, 5, 0.5

# Cell -> a probe of its operators alone, at the widths of the whole one; None where nothing is left
# of it to run.
Parts = Callable[[str], Probe | None]


def alone_ms(probe: Probe, engine: Engine) -> float:
    """Its median latency."""
    session = engine.build(probe)
    try:
        clock = Clock(session, engine.device.threads)
        start = time.perf_counter()
        while len(clock.laps) < _RUNS and time.perf_counter() - start < _SECONDS:
            clock.burst(_BURST)
        return clock.timing.median_ms
    finally:
        session.close()


def graph_parts(probe: Probe) -> Parts:
    """For engines that run torch.fx graphs. Inputs are what the whole network computes there."""
    module, values = probe.module, dict[fx.Node, Any]()

    class Keeping(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            values[n] = super().run_node(n)
            return values[n]

    with torch.no_grad():
        Keeping(module).run(*probe.inputs)

    def part(cell: str) -> Probe | None:
        graph, new, inputs = fx.Graph(), dict[fx.Node, Any](), list[torch.Tensor]()
        own = [n for n in module.graph.nodes if probe.cell_of.get(n.name) == cell]

        def read(node: fx.Node) -> Any:
            """What a node outside gives: a constant, or an input."""
            if node.op == "get_attr":
                return graph.node_copy(node)
            if not isinstance(values[node], torch.Tensor):
                return values[node]
            inputs.append(values[node])
            return graph.placeholder(node.name)

        # Inputs come first, whichever operator reads them. What picks one of several results of
        # another cell is an input itself: a tuple can be none.
        for node in own:
            picks = node.target is operator.getitem and node.args[0] not in own
            for source in (node,) if picks else node.all_input_nodes:
                if source not in new and (picks or source not in own):
                    new[source] = read(source)
        for node in own:
            if node not in new:
                new[node] = graph.node_copy(node, new.__getitem__)
        left = [new[n] for n in own if any(user not in own for user in n.users)]
        if not inputs or not left:
            return None
        graph.output(tuple(left))
        return Probe(fx.GraphModule(module, graph), tuple(inputs), lambda: b"", {}, {})

    return part


def onnx_parts(probe: Probe) -> Parts:
    """For engines that read ONNX. Inputs are random."""
    import onnx

    model = onnx.shape_inference.infer_shapes(
        onnx.load_model_from_string(build_probe_onnx(probe.module, probe.inputs))
    )
    shapes = {v.name: v for v in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    weights = {t.name: t for t in model.graph.initializer}

    def part(cell: str) -> Probe | None:
        operators = {o for o, owner in probe.cell_of.items() if owner == cell}
        nodes = [n for n in model.graph.node if n.name.partition("/")[0] in operators]
        made = {name for node in nodes for name in node.output}
        read = {name for node in nodes for name in node.input if name}
        later = {
            name for n in model.graph.node if n not in nodes for name in n.input
        } | {v.name for v in model.graph.output}  # fmt: skip
        inputs = [shapes[n] for n in dict.fromkeys(x for node in nodes for x in node.input)
                  if n in read - made - set(weights) and n in shapes]  # fmt: skip
        outputs = [shapes[n] for n in sorted(made & later) if n in shapes]
        constants = [n for n in model.graph.node if n.op_type == "Constant" and n not in nodes
                     and set(n.output) & read]  # fmt: skip
        inputs = [v for v in inputs if v.name not in {o for n in constants for o in n.output}]
        if not inputs or not outputs:  # folded into another cell by the exporter
            return None
        graph = onnx.helper.make_graph(
            [*constants, *nodes],
            "cell",
            inputs,
            outputs,
            [weights[n] for n in sorted(read & set(weights))],
        )
        proto = onnx.helper.make_model(
            graph, opset_imports=model.opset_import, ir_version=model.ir_version
        )
        examples = tuple(
            torch.rand([d.dim_value for d in v.type.tensor_type.shape.dim]) for v in inputs
        )
        return Probe(None, examples, proto.SerializeToString, {o: cell for o in operators}, {})

    return part
