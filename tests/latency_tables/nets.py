"""Networks built at given widths, as sources of probes: an oracle with no pruning code in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from latency_tables import Cell, LayerSpec, Probe
from pruner.graph.onnx.export import to_onnx

_ANCHORS = (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AdaptiveAvgPool2d)


@dataclass
class BuiltSource:
    """A probe source around a function from widths to a module."""

    name: str
    build: Callable[[Mapping[str, int]], nn.Module]
    options: Mapping[str, Sequence[int]]
    input_shape: tuple[int, ...]
    built: list[dict[str, int]] = field(default_factory=list)

    def sizes(self) -> Mapping[str, Sequence[int]]:
        return self.options

    def cells(self) -> Sequence[Cell]:
        cells, _, _ = self._describe({})
        return cells

    def removable(self) -> Sequence[str]:
        return ()

    def cell_sizes(
        self, sizes: Mapping[str, int], dropped: Sequence[str] = ()
    ) -> Mapping[str, tuple[int, ...]]:
        cells, _, _ = self._describe(sizes)
        return {cell.name: cell.dense_sizes for cell in cells}

    def probe(self, sizes: Mapping[str, int], dropped: Sequence[str] = ()) -> Probe:
        assert not dropped
        self.built.append(dict(sizes))
        cells, cell_of, module = self._describe(sizes)
        x = torch.randn(self.input_shape)
        widths = {cell.name: cell.dense_sizes for cell in cells}
        return Probe(
            module, (x,), lambda: to_onnx(module, (x,)).SerializeToString(), cell_of, widths
        )

    def _describe(
        self, sizes: Mapping[str, int]
    ) -> tuple[list[Cell], dict[str, str], fx.GraphModule]:
        uncut = {name: options[-1] for name, options in self.options.items()}
        torch.manual_seed(0)
        module = fx.symbolic_trace(self.build({**uncut, **sizes}).eval())
        with torch.no_grad():
            ShapeProp(module).propagate(torch.randn(self.input_shape))
        modules = dict(module.named_modules())
        cells: list[Cell] = []
        cell_of: dict[str, str] = {}
        for node in module.graph.nodes:
            if node.op in ("placeholder", "output", "get_attr"):
                continue
            layer = modules.get(str(node.target)) if node.op == "call_module" else None
            if isinstance(layer, _ANCHORS):
                cells.append(_cell(node, layer))
                cell_of[node.name] = node.name
            elif cell_of:
                # An operator between layers goes with the last one that feeds it.
                feeding = [cell_of[n.name] for n in node.all_input_nodes if n.name in cell_of]
                cell_of[node.name] = feeding[-1] if feeding else cells[-1].name
        return cells, cell_of, module


def _cell(node: fx.Node, layer: nn.Module) -> Cell:
    shape = node.all_input_nodes[0].meta["tensor_meta"].shape
    spatial = tuple(shape[2:])
    if isinstance(layer, nn.Conv2d):
        depthwise = layer.groups > 1
        names = ("channels",) if depthwise else ("in_channels", "out_channels")
        widths = (layer.in_channels, layer.out_channels)[: len(names)]
        attributes = (
            ("depthwise", depthwise), ("kernel", layer.kernel_size), ("spatial", spatial),
            ("stride", layer.stride),
        )  # fmt: skip
        fused = tuple(user.name.rstrip("0123456789_") for user in node.users if "add" in user.name)
        spec = LayerSpec("conv2d", names, attributes, fused)
    elif isinstance(layer, nn.Linear):
        spec = LayerSpec("linear", ("in_features", "out_features"))
        widths = (layer.in_features, layer.out_features)
    else:
        kind = type(layer).__name__.lower()
        spec = LayerSpec(kind, ("channels",), (("spatial", spatial),))
        widths = (shape[1],)
    return Cell(node.name, spec, (), widths)


class Tiny(nn.Module):
    """Two residual blocks and a classifier."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        stream, a, b = sizes["stream"], sizes["a"], sizes["b"]
        self.stem = nn.Conv2d(3, stream, 3, padding=1)
        self.conv1, self.conv2 = nn.Conv2d(stream, a, 3, padding=1), nn.Conv2d(a, stream, 1)
        self.conv3, self.conv4 = nn.Conv2d(stream, b, 3, padding=1), nn.Conv2d(b, stream, 1)
        self.norm1, self.norm3 = nn.BatchNorm2d(a), nn.BatchNorm2d(b)
        self.relu, self.pool = nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(stream, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.stem(x))
        x = self.relu(x + self.conv2(self.relu(self.norm1(self.conv1(x)))))
        x = self.relu(x + self.conv4(self.relu(self.norm3(self.conv3(x)))))
        return self.linear(torch.flatten(self.pool(x), 1))


def tiny() -> BuiltSource:
    options = {name: tuple(range(8, 65, 8)) for name in ("stream", "a", "b")}
    return BuiltSource("tiny", Tiny, options, (1, 3, 16, 16))
