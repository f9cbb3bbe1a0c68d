"""Ways to a structure at equal latency and equal training: at once, in rounds, by strategies.

    python examples/prepare.py cifar10
    python -m benchmarks.methods [--quick] [--methods explore ...] [--shares 50 35] [--seeds 0 1 2]

ResNet-20 on CIFAR-10 is brought to a share of its dense latency, as ONNX Runtime measures it, by
every method, each in a RUN of its own with one latency table for all. Every row takes the same
number of training steps in all: those on the way to the structure, and those of the tuning after
it, which the last epochs are for all. A step is a batch of 128 images, whatever network runs it:
the strategies' are dense ones. Rows are kept in benchmarks/results/methods.json and not done twice;
an interrupted one goes on where its RUN is. --quick is for a look: few images, few epochs.
"""

import argparse
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from pruner.run.config import Config
from pruner.run.finetune_stage import finetune
from pruner.run.measure_stage import measure
from pruner.run.metrics import Metrics
from pruner.run.solve_stage import solve
from pruner.utils import ProgressDisplay, digest_json

from . import record

BATCH = 128
TAIL = 2  # epochs of tuning after the structure is there
TAYLOR: dict[str, Any] = {"score": {"criterion": "taylor"}}
REPAIR: dict[str, Any] = {"finetune": {"repair": 512}}
Changes = Mapping[str, Any]


def list_methods(epochs: int, steps: int) -> dict[str, dict[str, Any]]:
    """Return the methods' changes of the configuration.

    Args:
        epochs: Of all training.
        steps: Of an epoch.
    """
    way = (epochs - TAIL) * steps
    once = {"finetune": {"epochs": epochs}}
    after = {"finetune": {"epochs": TAIL}}
    rounds = {"rounds": {"count": 3, "epochs": (epochs - TAIL) // 2}}
    picks = min(20, way // 2)
    progressive = {
        "solve": {
            "strategy": "progressive", "progressive_steps": way, "progressive_picks": picks
        }
    }  # fmt: skip
    gates = {"solve": {**progressive["solve"], "progressive_by": "gates"}}
    phase = way // 12
    explore = {"solve": {"strategy": "explore", "explore_rounds": 4, "explore_steps": [phase] * 3}}
    return {
        "at once, taylor": merge(once, TAYLOR),
        "at once, measured": once,
        "at once, measured, repaired": merge(once, REPAIR),
        "3 rounds, taylor": merge(after, rounds, TAYLOR),
        "progressive, gates": merge(after, gates, TAYLOR),
        "progressive, taylor": merge(after, progressive, TAYLOR),
        "progressive, measured": merge(after, progressive),
        "explore, taylor": merge(after, explore, TAYLOR),
    }


def merge(*changes: Changes) -> dict[str, Any]:
    """Merge changes of a configuration, section by section."""
    found: dict[str, Any] = {}
    for one in changes:
        for name, section in one.items():
            found[name] = {**found.get(name, {}), **section}
    return found


def main() -> None:
    """Run what is missing, print the table, write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--quick", action="store_true", help="a look: 6 epochs of 2,560 images, a coarse table"
    )
    parser.add_argument("--methods", nargs="*", default=[""], help="those that hold one of these")
    parser.add_argument("--shares", nargs="*", type=int, default=[50, 35], help="percent of dense")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8, help="of all training")
    parser.add_argument("--images", type=int, default=7680, help="of an epoch")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--work", type=Path, default=Path("runs/methods"))
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.images, options.epochs = 2560, 6
    torch.set_num_threads(1)
    file = options.results / "methods.json"
    results = record.resume(file, {"format": 1, "rows": []}, "format")
    config = _make_config(options)
    if options.quick:
        config["measure"] = {"quick": True, "probes": 14}
    measure(Config.from_dict({**config, "out": str(options.work / "table")}), ProgressDisplay())
    for row, changes in list_rows(options):
        if any({**known, **row} == known for known in results["rows"]):
            continue
        results["rows"].append({**row, **run_row(options.work, row, changes)})
        record.write_json(file, results)
        print(_describe(results["rows"][-1]), flush=True)
    text = report(results["rows"])
    record.write_result(options.results / "methods.md", text)
    print(text, end="")


def _make_config(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": "pruner.demo.resnet:resnet20",
        "weights": str(options.data / "resnet20_cifar10.safetensors"),
        "input": "1x3x32x32",
        "data": str(options.data / "cifar10"),
        "finetune": {"batch": BATCH, "images": options.images, "evaluate_every": 0},
    }


def list_rows(options: argparse.Namespace) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield what tells each row that is asked for, and the changes of its configuration."""
    steps = -(-options.images // BATCH)
    methods = list_methods(options.epochs, steps)
    for seed in options.seeds:
        for share in options.shares:
            for name, changes in methods.items():
                if any(text in name for text in options.methods):
                    row = {"method": name, "share": share, "seed": seed,
                           "epochs": options.epochs, "images": options.images}  # fmt: skip
                    yield row, {**changes, "seed": seed, "budgets": [f"{share}%"]}


def run_row(work: Path, row: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """Solve and tune in a RUN of its own, and return the figures."""
    folder = work / f"{digest_json([dict(row), dict(changes)])[:12]}"
    if not folder.is_dir():
        shutil.copytree(work / "table", folder)
    began = time.perf_counter()
    solve(folder, changes, ProgressDisplay())
    finetune(folder, {"finetune": {"epochs": changes["finetune"]["epochs"]}}, ProgressDisplay())
    metrics = Metrics.load(folder / "metrics.json")
    dense, pruned = metrics.dense, metrics.pruned
    assert dense.latency_ms is not None and pruned.latency_ms is not None
    return {
        "accuracy": pruned.value,
        "as_cut": pruned.value_before_finetune,
        "dense_accuracy": dense.value,
        "latency_share": pruned.latency_ms / dense.latency_ms,
        "parameters": pruned.parameters,
        "status": metrics.solver.status,
        "minutes": (time.perf_counter() - began) / 60,
        "device": metrics.device,
        "date": str(date.today()),
    }


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay the rows out as a table for every schedule and share, means over the seeds."""
    lines = ["# Ways to a structure, at equal latency and equal training", ""]
    lines += ["ResNet-20 on CIFAR-10; `python -m benchmarks.methods` says what is compared.", ""]
    schedules = sorted({(r["images"], r["epochs"], r["share"]) for r in rows}, reverse=True)
    for images, epochs, share in schedules:
        own = [r for r in rows if (r["images"], r["epochs"], r["share"]) == (images, epochs, share)]
        lines += [
            f"## {share}% of the latency: {epochs} epochs of {images} images", "",
            "| method | seeds | accuracy | from - to | as cut | measured share | minutes |",
            "|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        for name in dict.fromkeys(r["method"] for r in own):
            same = [r for r in own if r["method"] == name]
            found = [r["accuracy"] for r in same]
            lines.append(
                f"| {name} | {len(same)} | {_average(found):.1%} | {min(found):.1%} - "
                f"{max(found):.1%} | {_average([r['as_cut'] for r in same]):.1%} | "
                f"{_average([r['latency_share'] for r in same]):.0%} | "
                f"{_average([r['minutes'] for r in same]):.1f} |"
            )
        lines += ["", f"Dense: {own[0]['dense_accuracy']:.1%}; on {own[0]['device']}.", ""]
    return "\n".join(lines)


def _describe(row: Mapping[str, Any]) -> str:
    return (
        f"{row['method']}, {row['share']}%, seed {row['seed']}: {row['accuracy']:.1%} at "
        f"{row['latency_share']:.0%} of the latency, {row['minutes']:.1f} minutes"
    )


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
