"""One cell of a network as a network of its own, as other latency tables time their layers."""

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


def time_alone(probe: Probe, engine: Engine) -> float:
    """Return its median latency, in milliseconds."""
    session = engine.build(probe)
    try:
        clock = Clock(session, engine.device.threads)
        start = time.perf_counter()
        while len(clock.laps) < _RUNS and time.perf_counter() - start < _SECONDS:
            clock.burst(_BURST)
        return clock.timing.median_ms
    finally:
        session.close()


def split_graph(probe: Probe) -> Parts:
    """Split it for engines that run torch.fx graphs; inputs are what the whole computes there."""
    module, values = probe.module, dict[fx.Node, Any]()

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            values[n] = super().run_node(n)
            return values[n]

    with torch.no_grad():
        Recorder(module).run(*probe.inputs)

    def extract(cell: str) -> Probe | None:
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

    return extract


def split_onnx(probe: Probe) -> Parts:
    """Split it for engines that read ONNX; inputs are random."""
    import onnx.utils

    model = onnx.shape_inference.infer_shapes(
        onnx.load_model_from_string(build_probe_onnx(probe.module, probe.inputs))
    )
    extractor = onnx.utils.Extractor(model)
    shapes = {v.name: v for v in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    fixed = {t.name for t in model.graph.initializer}
    fixed |= {o for n in model.graph.node if n.op_type == "Constant" for o in n.output}

    def extract(cell: str) -> Probe | None:
        operators = {o for o, owner in probe.cell_of.items() if owner == cell}
        nodes = [n for n in model.graph.node if n.name.partition("/")[0] in operators]
        made = {name for node in nodes for name in node.output}
        read = dict.fromkeys(name for node in nodes for name in node.input)
        later = {v.name for v in model.graph.output}
        later |= {name for n in model.graph.node if n not in nodes for name in n.input}
        inputs = [n for n in read if n in shapes and n not in made | fixed]
        outputs = sorted(made & later & set(shapes))
        if not inputs or not outputs:  # folded into another cell by the exporter
            return None
        proto = extractor.extract_model(inputs, outputs)
        examples = tuple(
            torch.rand([d.dim_value for d in v.type.tensor_type.shape.dim])
            for v in proto.graph.input
        )
        return Probe(None, examples, proto.SerializeToString, {o: cell for o in operators}, {})

    return extract
