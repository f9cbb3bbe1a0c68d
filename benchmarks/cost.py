"""What every phase costs: seconds and the most memory held, of four networks at 224 pixels.

    python -m benchmarks.cost [--only TEXT] [--again] [--images 256] [--growth]

Phases are run one after another in a process of its own for each network, on one thread, as the
command line runs them by default: trace, score (by `measured`), measure (a quick table of ONNX
Runtime), solve (formulate and the solver, 60%), check (the comparison that ends a solve), repair
and one of ``--trials``' candidates. Memory is the most that the process held in a phase, the
network and what phases before left included. --growth scores ResNet-18 with half and a quarter of
the images and at half the side too, and says how its seconds grow.

Images are random: seconds do not depend on what is seen. Results are kept in
benchmarks/results/cost.json, and the same command continues.
"""

import argparse
import datetime
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import record

NETWORKS = (
    "torchvision:resnet18", "torchvision:mobilenet_v2", "torchvision:resnet50",
    "timm:vit_small_patch16_224",
)  # fmt: skip
PHASES = ("trace", "score", "measure", "solve", "check", "repair", "trial")
PACKAGES = ("torch", "onnxruntime", "torchvision", "timm", "highspy")
RESULTS = record.RESULTS / "cost.json"
BATCH, SIDE, SHARE = 32, 224, "60%"
LIMIT_S = 4 * 3600.0
"""Seconds after which a network's process is ended."""
Phases = dict[str, dict[str, float]]


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", help="networks whose name holds this text")
    parser.add_argument("--again", action="store_true", help="do finished lines anew")
    parser.add_argument("--images", type=int, default=256, help="calibration images")
    parser.add_argument("--growth", action="store_true", help="how scoring grows, too")
    parser.add_argument("--one", metavar="NAME,SIDE,LAST", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, side, last = options.one.split(",")
        examine(name, options.images, int(side), last)
        return
    start: dict[str, Any] = {
        "machine": record.describe_machine(PACKAGES), "images": options.images, "batch": BATCH,
        "seed": 0, "rows": {},
    }  # fmt: skip
    kept = record.resume(RESULTS, start, "images", "another number of images")
    for row, arguments in list_rows(options.images, options.growth):
        if options.only in row and (options.again or row not in kept["rows"]):
            found = run_alone(*arguments)
            kept["rows"][row] = found | {"date": datetime.date.today().isoformat()}
            record.write_json(RESULTS, kept)
            print(row, found, flush=True)
    print(report(kept["rows"]))


def list_rows(images: int, growth: bool) -> Iterator[tuple[str, tuple[str, int, int, str]]]:
    """Yield the table's rows: a name, then network, images, side and the last phase to run."""
    for name in NETWORKS:
        yield name, (name, images, SIDE, PHASES[-1])
    if growth:
        for count, side in ((images // 2, SIDE), (images // 4, SIDE), (images, SIDE // 2)):
            row = f"{NETWORKS[0]}, {count} images of {side} pixels"
            yield row, (NETWORKS[0], count, side, "score")


def run_alone(name: str, images: int, side: int, last: str) -> dict[str, Any]:
    """Run a network's phases in a process of their own, and return the costs of those it ended.

    Where it failed, or took too long, it is said why.
    """
    arguments = ("--one", f"{name},{side},{last}", "--images", images)
    try:
        done = record.run_module("benchmarks.cost", *arguments, limit_s=LIMIT_S)
    except subprocess.TimeoutExpired as error:
        said = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        return {"phases": read_phases(said), "failed": f"over {LIMIT_S:.0f} s"}
    found: dict[str, Any] = {"phases": read_phases(done.stdout)}
    if done.returncode:
        words = done.stderr.strip().rpartition("\n")[2]
        found["failed"] = words or f"ended with {done.returncode}, for lack of memory as a rule"
    return found


def read_phases(said: str) -> Phases:
    """Return what a process printed of its phases: a line for each."""
    found: Phases = {}
    for line in said.splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    return found


def examine(name: str, images: int, side: int, last: str) -> None:
    """Run the phases until the last that is asked for, and print each one's cost as it ends."""
    import torch

    import latency_tables
    import pruner
    import solver

    from .structures import time_in_turn, trace_network

    torch.set_num_threads(1)
    torch.manual_seed(0)

    def run(phase: str, work: Callable[[], Any]) -> Any:
        if PHASES.index(phase) > PHASES.index(last):
            return None
        with watch_cost(phase):
            return work()

    batches = [(torch.randn(BATCH, 3, side, side), None) for _ in range(images // BATCH)]
    engine = latency_tables.engine("onnxruntime", threads=1)
    net = run("trace", lambda: trace_network(name, 1, side))
    scores = run("score", lambda: pruner.score(net, batches, None, "measured"))
    table = run("measure", lambda: latency_tables.measure(net, engine, quick=True))
    answer = run("solve", lambda: solver.solve(pruner.formulate(net, table, scores, budget=SHARE)))
    if answer is None:
        return
    plan = pruner.Plan.from_solution(net, answer, scores)
    run("check", lambda: time_in_turn(net, plan, engine))
    run("repair", lambda: pruner.repair(pruner.apply(net, plan), net, plan, batches))
    run("trial", lambda: pruner.evaluate_candidates(net, table, scores, batches, SHARE, 1))


@contextmanager
def watch_cost(phase: str) -> Iterator[None]:
    """Print a phase's seconds by the clock, and the most memory that the process held in it."""
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        peak.write_text("5")  # Linux counts the high-water mark anew
    begin = time.perf_counter()
    yield
    cost = {"seconds": time.perf_counter() - begin, "peak_mb": read_peak_mb()}
    print(json.dumps({phase: cost}), flush=True)


def read_peak_mb() -> float:
    """Return the process's high-water mark of resident memory; NaN where Linux does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM")), float("nan"))


def report(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table: a row a network, a column a phase, seconds and megabytes."""
    lines = []
    for name, row in rows.items():
        found, failed = row["phases"], row.get("failed")
        cells = [
            f"{found[p]['seconds']:.1f} s, {found[p]['peak_mb']:.0f} MB" if p in found else ""
            for p in PHASES
        ]
        lines.append((name if failed is None else f"{name} ({failed})", *cells))
    return record.align_table(lines, ("network", *PHASES))


if __name__ == "__main__":
    main()
