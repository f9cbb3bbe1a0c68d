"""Latency tables and solved budgets on a GPU: one command for a machine that has one.

    python -m benchmarks.gpu [--minutes 9] [--only vit_s-fp16] [--folder runs/gpu]

ResNet-50, MobileNetV2, ViT-S and DeiT-B at batch 1 and 64, in fp16 and fp32, with torch (CUDA
graphs, channels-last) and, where its libraries load, TensorRT: the table and its error on
structures held out, the structures that are picked for 70%, 50% and 30% by magnitude, at once and
after checks as msprune solve does, what they were predicted and what they take, dense and pruned
timed in turn. It needs torch, timm,
torchvision and what this package needs, and no data. After --minutes it stops in good order, and
the same command continues; finished settings are in --results (benchmarks/results/gpu.json, and
gpu.md as a table).
`--on cpu --side 64 --probes 6` tries it out without a GPU.
"""

import argparse
import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import latency_tables
import pruner
from latency_tables import Engine, LatencyError, LatencyTable
from latency_tables.regression import predict_held_out
from pruner import Network

from . import record
from . import structures as st

RESULTS = record.RESULTS / "gpu.json"
NETWORKS = {
    "resnet50": "torchvision:resnet50",
    "mobilenet_v2": "torchvision:mobilenet_v2",
    "vit_s": "timm:vit_small_patch16_224",
    "deit_b": "timm:deit_base_patch16_224",
}
PRECISIONS = ("fp16", "fp32")
BATCHES = (64, 1)


class TimeIsUp(Exception):
    """Raised between two measurements; what was measured is kept."""


def main() -> None:
    """Run what is missing, print the table, write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, help="stop in good order after so many")
    parser.add_argument("--only", help="settings that hold this text, e.g. vit_s-fp16")
    parser.add_argument("--on", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--side", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--probes", type=int, help="networks to time (default: as it takes)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    rows: dict[str, Any] = record.read_json(options.results, {})
    for key, name, precision, batch, kind in list_settings(options.on):
        if key in rows or (options.only and options.only not in key):
            continue
        try:
            where = {"on": options.on} if kind == "torch" else {}
            engine = latency_tables.engine(kind, precision=precision, **where)
            rows[key] = examine(key, name, batch, engine, options, until)
        except TimeIsUp:
            print(f"{key}: time is up; the same command continues")
            break
        except LatencyError as error:
            # Not kept: it may be put right, and the setting tried again.
            print(f"{key}: {' '.join(str(error).split())}")
            continue
        record.write_json(options.results, rows)
    text = report(rows)
    record.write_result(options.results.with_suffix(".md"), text)
    print(text, end="")


def list_settings(on: str) -> Iterator[tuple[str, str, str, int, str]]:
    """List a setting's networks before the next's: a machine may be at hand for some of it only."""
    for kind in ("torch", "tensorrt") if on == "cuda" else ("torch",):
        for precision in PRECISIONS if on == "cuda" else ("fp32",):
            for batch in BATCHES:
                for name in NETWORKS:
                    yield f"{name}-{precision}-batch{batch}-{kind}", name, precision, batch, kind


def examine(
    key: str, name: str, batch: int, engine: Engine, options: argparse.Namespace, until: float
) -> dict[str, Any]:
    """Examine one setting: its table, its error, its solved budgets."""
    if time.monotonic() > until:
        raise TimeIsUp
    torch.manual_seed(options.seed)
    sized = {"img_size": options.side} if NETWORKS[name].startswith("timm:") else {}
    net = st.trace_network(NETWORKS[name], batch, options.side, **sized)

    def report_progress(p: latency_tables.MeasureProgress) -> None:
        print(f"  {key} {p.done}/{p.total} {p.note}", flush=True)
        if time.monotonic() > until and p.done < p.total:
            raise TimeIsUp

    table = latency_tables.measure(
        net,
        engine,
        path=options.folder / key,
        probes=options.probes,
        seed=options.seed,
        progress=report_progress,
    )
    held_out = predict_held_out(table)
    calibration, rank = table.calibration(net), None
    if len(held_out) > 2:
        predicted = [calibration.total_ms(h.sum_ms) for h in held_out]
        rank = st.summarize_errors(predicted, [h.measured_ms for h in held_out])["rank"]
    kernels = [r.kernel_ms / r.latency_ms for r in table.readings]
    scores = pruner.score(net, None, None, "magnitude")
    return {
        "device": str(table.device),
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "seed": options.seed,
        "side": options.side,
        "probes": len(table.readings),
        "minutes": table.provenance["seconds"] / 60,
        "dense_ms": table.uncut_ms(net),
        "kernels_to_end_to_end": float(np.median(kernels)),
        "error": None if table.error is None else vars(table.error),
        "rank": rank,
        "notes": list(table.notes),
        "solved": [solve(net, table, engine, scores, budget, until) for budget in st.BUDGETS],
    }


def solve(
    net: Network, table: LatencyTable, engine: Engine, scores: Any, budget: str, until: float
) -> dict[str, Any]:
    """Solve for one budget, and measure what is taken in turn with the uncut network."""
    if time.monotonic() > until:
        raise TimeIsUp
    row, plan = st.solve(net, table, engine, scores, budget)
    if plan is None:
        return row
    dense, pruned = st.time_in_turn(net, plan, engine)
    return {
        **row,
        "in_turn": {
            "dense_ms": dense.median_ms,
            "pruned_ms": pruned.median_ms,
            "spread_ms": pruned.spread_ms,
            "runs": pruned.runs,
            "speed_up": dense.median_ms / pruned.median_ms,
        },
    }


def report(rows: dict[str, Any]) -> str:
    """Write one row a setting in Markdown."""
    devices = sorted({f"{row['device']}, {row['date']}" for row in rows.values()})
    about = {"budgets": st.BUDGETS, "describe_gap": st.describe_gap}
    return record.render("gpu.md.j2", rows=rows, devices=devices, **about)


if __name__ == "__main__":
    main()
