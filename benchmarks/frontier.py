"""How long the frontier of 50 budgets takes, and whether its points are what separate solves give.

    python -m benchmarks.frontier [--only TEXT] [--points 50] [--again]

ResNet-50 and MobileNetV2 at 224 pixels: a coarse latency table (ONNX Runtime, one thread; kept in
benchmarks/cache, measured once) and scores by magnitude, then all budgets by the functions that
``msprune frontier`` calls, and three points anew, each by itself. Finished lines are kept in
benchmarks/results/frontier.json; the same command continues. Exits with 1 where a line fails.
"""

import argparse
import datetime
import sys
import time
from typing import Any

import torch

import latency_tables
import pruner
import solver
from latency_tables import LatencyTable
from pruner.search import spread_budgets, trace_frontier

from . import record

NETWORKS = ("timm:resnet50", "timm:mobilenetv2_100")
CACHE = record.ROOT / "benchmarks" / "cache" / "frontier"
RESULTS = record.RESULTS / "frontier.json"
PACKAGES = ("torch", "highspy", "numpy", "onnxruntime")
HEAD = ("network", "points", "formulate and solve", "proven", "largest gap", "monotone", "alone")


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", help="networks whose name holds this text")
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--again", action="store_true", help="do finished lines anew")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, dict[str, Any]] = record.read_json(RESULTS, {})
    for name in NETWORKS:
        if options.only in name and (options.again or name not in rows):
            rows[name] = examine(name, options.points)
            record.write_json(RESULTS, rows)
    lines = [
        (
            name,
            str(row["points"]),
            f"{row['seconds']:.1f} s",
            str(row["proven"]),
            f"{row['largest_gap']:.1g}",
            "yes" if row["monotone"] else "NO",
            "equal" if row["largest_difference"] <= 1e-9 else f"{row['largest_difference']:.1g}",
        )
        for name, row in rows.items()
    ]
    print(record.align_table(lines, HEAD))
    good = all(row["monotone"] and row["largest_difference"] <= 1e-9 for row in rows.values())
    sys.exit(not good)


def examine(name: str, count: int) -> dict[str, Any]:
    """Trace one network's frontier, by the clock, and solve three of its points anew."""
    torch.manual_seed(0)
    net = pruner.trace(record.build_module(name).eval(), (torch.rand(1, 3, 224, 224),), name=name)
    table, scores = load_table(net), pruner.score(net, (), None, "magnitude")
    begin = time.perf_counter()
    budgets = spread_budgets(net, table, scores, count)
    points = list(trace_frontier(net, table, scores, budgets))
    seconds = time.perf_counter() - begin
    differences = []
    for i in (count // 5, count // 2, 4 * count // 5):
        problem = pruner.formulate(net, table, scores, points[i].budget)
        alone = solver.solve(problem)
        differences.append(abs(alone.value - points[i].value) / abs(alone.value))
    return {
        "points": len(points),
        "seconds": seconds,
        "proven": sum(point.gap == 0 for point in points),
        "largest_gap": max(point.gap for point in points),
        "monotone": all(a.value <= b.value for a, b in zip(points, points[1:])),
        "largest_difference": max(differences),
        "table": str(table.device),
        "machine": record.describe_machine(PACKAGES),
        "date": datetime.date.today().isoformat(),
        "seed": 0,
    }


def load_table(net: pruner.Network) -> LatencyTable:
    """Return the network's table of this machine, measured where there is none yet."""
    folder = CACHE / net.name.partition(":")[2]
    engine = latency_tables.engine("onnxruntime", threads=1)
    if not (folder / "latency.parquet").is_file():
        latency_tables.measure(net, engine, quick=True).save(folder)
    return LatencyTable.load(folder, engine.device.at_batch(1))


if __name__ == "__main__":
    main()
