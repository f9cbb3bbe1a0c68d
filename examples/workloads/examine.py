"""Takes a workload the whole way of a user: trace, solve, cut, verify, save, export, train."""

import tempfile
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import pruner
import solver
from latency_tables import Calibration, LayerSpec
from pruner.graph import to_onnx
from pruner.problem import predict
from pruner.structure import Network, count_macs, count_parameters

WORKLOADS = (
    "object_tracking", "mapnet", "siamtol", "point_tracking", "depth_completion",
    "region_selection", "ssd", "multiview",
)  # fmt: skip
BUDGET = "60%"
SEED = 0
"""Of the random weights; random plans take it and the next one."""


class FormulaTable:
    """A latency table by formula, in the place of one that was measured on a device.

    Contractions take longer by the product of their widths in steps of four, all else little.
    """

    overhead_ms = 0.05
    error = None

    def predict(
        self, spec: LayerSpec, sizes: Any, network_ms: float | None = None
    ) -> NDArray[np.float64]:
        """Return milliseconds of a cell at several sizes [n, widths]."""
        steps = np.ceil(np.asarray(sizes, dtype=float) / 4)
        rate = 1e-2 if steps.shape[1] > 1 else 1e-5
        milliseconds: NDArray[np.float64] = 1e-3 + rate * np.prod(steps, axis=1)
        return milliseconds

    def predict_total(
        self, cells: Iterable[tuple[LayerSpec, Sequence[int]]], network: str = ""
    ) -> float:
        """Return milliseconds of a whole network."""
        return self.overhead_ms + sum(float(self.predict(s, [n])[0]) for s, n in cells)

    def calibration(self, net: Any) -> Calibration:
        """Return what a network adds to the sum of its cells: nothing."""
        return Calibration()

    def uncut_ms(self, net: Network) -> float:
        """Return milliseconds of the uncut network."""
        return predict(net, self)


@dataclass(frozen=True)
class Result:
    """What was found of one workload.

    Attributes:
        name: The workload.
        parameters: Of the dense network.
        prunable: The share of the parameters that is gone where every Dim has its smallest size.
        prunable_macs: The same of the multiply-adds.
        blocks: How many branches can be dropped.
        difference: The largest difference to the masked dense network, random plans and solved.
        status: Why the solver stopped.
        loaded: The difference after saving and loading.
        onnx: The difference in ONNX Runtime, or why ONNX cannot say it.
        trained: The share of the parameters that has a gradient in training.
        frozen: What cannot be cut, and why.
        notes: What the trace remarks.
    """

    name: str
    parameters: int
    prunable: float
    prunable_macs: float
    blocks: int
    difference: float
    status: str
    loaded: float
    onnx: float | str
    trained: float
    frozen: tuple[str, ...]
    notes: tuple[str, ...]


def examine(name: str) -> Result:
    """Take one workload the whole way."""
    torch.manual_seed(SEED)
    model, inputs = import_module(f"examples.workloads.{name}").make()
    randomize_constants(model)
    net = pruner.trace(model.eval(), inputs)
    least = {dim.name: dim.options()[0] for dim in net.dims.values()}
    answer = solver.solve(_formulate(net), time_limit_s=60)
    plans = [
        pruner.Plan.random(net, macs=0.5, seed=seed, drop_blocks=0.1) for seed in (SEED, SEED + 1)
    ]
    plans.append(pruner.Plan({dim: tuple(range(size)) for dim, size in least.items()},
                             dict.fromkeys(net.blocks, True)))  # fmt: skip
    if answer.choice is not None:
        plans.insert(0, pruner.Plan.from_solution(net, answer, _score(net)))
    small = pruner.apply(net, plans[0])
    with torch.no_grad():
        expected = small(*inputs)
        with tempfile.TemporaryDirectory() as folder:
            pruner.save(small, plans[0], folder)
            loaded = compare(pruner.load(folder)(*inputs), expected)
    return Result(
        name=name,
        parameters=count_parameters(net),
        prunable=1 - count_parameters(net, least) / count_parameters(net),
        prunable_macs=1 - count_macs(net, least) / count_macs(net),
        blocks=len(net.blocks),
        difference=max(pruner.verify(model, net, plan) for plan in plans),
        status=answer.status.name,
        loaded=loaded,
        onnx=run_onnx(small, inputs, expected),
        trained=train_step(small, inputs),
        frozen=tuple(f"{f.reason}: {', '.join(f.tensors)}" for f in net.frozen if f.tensors),
        notes=tuple(net.program.notes),
    )


def _score(net: Network) -> Any:
    return pruner.score(net, (), None, "magnitude")


def _formulate(net: Network) -> solver.Problem:
    return pruner.formulate(net, FormulaTable(), _score(net), budget=BUDGET)


def randomize_constants(model: nn.Module) -> None:
    """Give scales, shifts and statistics random values: ones and zeros would hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            noise = 0.2 * torch.randn(tensor.shape, generator=generator).tanh()
            if name.endswith("running_var"):
                tensor.mul_(1 + noise)
            elif tensor.is_floating_point() and bool((tensor == tensor.flatten()[0]).all()):
                tensor.add_(noise)


def compare(got: Any, expected: Any) -> float:
    """Return the largest difference over all outputs, relative to each one's largest value."""
    pairs = zip(pytree.tree_leaves(got), pytree.tree_leaves(expected), strict=True)
    return max(float((x - y).abs().max() / y.abs().max()) for x, y in pairs)


def run_onnx(small: nn.Module, inputs: tuple[Tensor, ...], expected: Any) -> float | str:
    """Run a network by ONNX Runtime; return the difference, or what ONNX cannot say."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        content = to_onnx(small, inputs).SerializeToString()
        session = onnxruntime.InferenceSession(content, options)
    except Exception as error:  # exporter and runtime raise of many kinds
        return str(error).strip().partition("\n")[0]
    feeds = {node.name: x.numpy() for node, x in zip(session.get_inputs(), inputs, strict=True)}
    return compare([torch.from_numpy(x) for x in session.run(None, feeds)], expected)


def train_step(small: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Train a step towards zeros; return the share of the parameters that has a gradient."""
    small.train()
    optimizer = torch.optim.SGD(small.parameters(), lr=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        leaves = pytree.tree_leaves(small(*inputs))
        sum((x.square().mean() for x in leaves), torch.zeros(())).backward()
    optimizer.step()
    small.eval()
    found = [p.grad is not None and bool(p.grad.isfinite().all()) for p in small.parameters()]
    return sum(found) / len(found)
