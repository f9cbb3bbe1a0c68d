"""Problems formulated from timm networks, with flat scores and smooth latencies by formula.

``formulated-NETWORK-SHARE[-two|-three]`` names one: latencies on one device within a share (in
percent) of the dense network's, on a second device within a little more, and its parameters too.
Scores are the magnitudes of random weights, made from a seed: nearly the same for every channel of
a layer. Layers cost a launch, their multiply-adds and what they move, with no staircase, so that
nearly every table entry is a choice of its own. Problems are kept in ``benchmarks/cache/solver``.
"""

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import solver

from . import record

CACHE = record.ROOT / "benchmarks" / "cache" / "solver"
SEED, FORM = 0, 1
#: Milliseconds of a launch, of 10^9 multiply-adds and of 10^9 values moved, on two devices.
DEVICES = {"latency_ms": (0.004, 0.1, 10.0), "other_ms": (0.036, 0.35, 40.0)}
#: What is raced: networks, shares, budgets.
CASES = (
    "mobilenetv2_100-40", "mobilenetv2_100-50-two",
    "deit_tiny_patch16_224-60", "deit_tiny_patch16_224-50", "deit_tiny_patch16_224-40",
    "deit_tiny_patch16_224-50-two",
    "resnet50-60-two", "resnet50-60-three",
    "convnext_tiny-50-two",
    "swin_base_patch4_window7_224-25",
    "efficientnet_b0-45", "regnety_008-35", "densenet121-80", "mixer_s16_224-50",
    "vit_small_patch16_224-50-two", "convnext_nano-50-three",
    "convnext_small-45-two", "resnet101-55-three", "swin_small_patch4_window7_224-45-three",
)  # fmt: skip
NAMES = tuple(f"formulated-{case}" for case in CASES)


def load_formulated(name: str) -> solver.Problem:
    """Read a problem from the cache; trace its network and formulate where it is not there."""
    path = CACHE / f"{name}-{SEED}-{FORM}.npz"
    if not path.is_file():
        problem = formulate_network(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            write_problem(problem, Path(folder) / path.name)
            (Path(folder) / path.name).rename(path)
    return read_problem(path)


def formulate_network(name: str) -> solver.Problem:
    """Trace a network with random weights and formulate its problem."""
    import torch

    import pruner
    from pruner.problem import Constraints, Limit

    _, network, share, *kind = name.split("-")
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    model = record.build_module(f"timm:{network}").eval()
    net = pruner.trace(model, (torch.rand(1, 3, 224, 224),), name=name)
    scores = pruner.score(net, (), None, "magnitude")
    percent, limits = float(share), list[Limit]()
    if kind in (["two"], ["three"]):
        other: Any = SmoothTable("other_ms")
        limits.append(Limit("other", f"{percent + 5:g}%", other))
    if kind == ["three"]:
        limits.append(Limit("params", f"{percent - 5:g}%"))
    table: Any = SmoothTable("latency_ms")
    constraints = Constraints(limits=tuple(limits))
    return pruner.formulate(net, table, scores, f"{percent:g}%", constraints=constraints)


class SmoothTable:
    """Latencies of a device by formula, smooth in the widths."""

    overhead_ms, error = 0.0, None

    def __init__(self, device: str) -> None:
        self.launch_ms, self.work_ms, self.moved_ms = DEVICES[device]

    def predict(self, spec: Any, sizes: Any, network_ms: float | None = None) -> np.ndarray:
        """Return milliseconds [rows] of a layer at widths [rows, sizes]."""
        widths = np.asarray(sizes, dtype=float)
        places, kernel = _measure_places(spec)
        values = places * widths.sum(axis=1)
        work = places * kernel * np.prod(widths, axis=1)
        return self.launch_ms + (work * self.work_ms + values * self.moved_ms) * 1e-9

    def predict_total(self, cells: Any, network: str = "") -> float:
        """Return the milliseconds of a network of these (specification, sizes)."""
        return sum(float(self.predict(s, [z])[0]) for s, z in cells)

    def calibration(self, net: Any) -> Any:
        """Return the calibration that changes nothing."""
        from latency_tables import Calibration

        return Calibration()

    def uncut_ms(self, net: Any) -> float:
        """Return the dense network's milliseconds."""
        from pruner import predict

        table: Any = self
        return predict(net, table)


def _measure_places(spec: Any) -> tuple[int, int]:
    """Return at how many places a layer works, and the size of its kernel."""
    given = dict(spec.attributes)
    kernel = math.prod(given.get("kernel", ()))
    if "map" in given:
        return math.prod(given["map"]) // max(math.prod(given.get("stride", ())), 1), kernel
    counts = [math.prod(_list_numbers(shape)) for shape in given.get("shapes", ())]
    if isinstance(given.get("rows"), tuple):
        counts.append(math.prod(_list_numbers(given["rows"])))
    return max(counts, default=1), kernel


def _list_numbers(shape: Any) -> Iterator[int]:
    """Yield the fixed sizes of a shape, those that are multiples of the batch included."""
    for size in shape:
        first = str(size).split(" ")[0]
        if first.isdigit():
            yield int(first)


def write_problem(problem: solver.Problem, path: Path) -> None:
    """Write a problem as arrays: millions of entries are too many for JSON."""
    arrays: dict[str, Any] = {}
    for i, table in enumerate(problem.tables):
        if table.value is not None:
            arrays[f"value {i}"] = table.value
        arrays |= {f"cost {i} {resource}": cost for resource, cost in table.cost.items()}
    head = {
        "name": problem.name,
        "options": dict(problem.options),
        "tables": [(t.name, t.scope) for t in problem.tables],
        "budgets": dict(problem.budgets),
    }
    np.savez_compressed(path, head=np.array(json.dumps(head)), **arrays)


def read_problem(path: Path) -> solver.Problem:
    """Read what :func:`write_problem` wrote."""
    with np.load(path) as kept:
        head = json.loads(str(kept["head"]))
        costs: list[dict[str, np.ndarray]] = [{} for _ in head["tables"]]
        values: dict[int, np.ndarray] = {}
        for key in kept.files:
            kind, number, resource = (key.split(" ", 2) + ["", ""])[:3]
            if kind == "cost":
                costs[int(number)][resource] = kept[key]
            elif kind == "value":
                values[int(number)] = kept[key]
    tables = [
        solver.Table(name, tuple(scope), values.get(i), costs[i])
        for i, (name, scope) in enumerate(head["tables"])
    ]
    return solver.Problem(head["name"], head["options"], tables, head["budgets"])


if __name__ == "__main__":
    load_formulated(sys.argv[1])
