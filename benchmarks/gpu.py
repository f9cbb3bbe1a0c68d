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

from __future__ import annotations

import argparse
import datetime
import json
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

from . import structures as st

RESULTS = Path(__file__).with_name("results") / "gpu.json"
NETWORKS = {
    "resnet50": "torchvision:resnet50",
    "mobilenet_v2": "torchvision:mobilenet_v2",
    "vit_s": "timm:vit_small_patch16_224",
    "deit_b": "timm:deit_base_patch16_224",
}
PRECISIONS = ("fp16", "fp32")
BATCHES = (64, 1)
ROUNDS = 40


class TimeIsUp(Exception):
    """Raised between two measurements; what was measured is kept."""


def main() -> None:
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
    options.results.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Any] = {}
    if options.results.is_file():
        rows = json.loads(options.results.read_text(encoding="utf-8"))
    for key, name, precision, batch, kind in settings(options.on):
        if key in rows or (options.only and options.only not in key):
            continue
        try:
            engine = make(kind, precision, options.on)
            rows[key] = examine(key, name, batch, engine, options, until)
        except TimeIsUp:
            print(f"{key}: time is up; the same command continues")
            break
        except LatencyError as error:
            # Not kept: it may be put right, and the setting tried again.
            print(f"{key}: {' '.join(str(error).split())}")
            continue
        options.results.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    text = markdown(rows)
    options.results.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    print(text)


def settings(on: str) -> Iterator[tuple[str, str, str, int, str]]:
    """All networks in one setting before the next: a machine may be at hand for some of it only."""
    for kind in ("torch", "tensorrt") if on == "cuda" else ("torch",):
        for precision in PRECISIONS if on == "cuda" else ("fp32",):
            for batch in BATCHES:
                for name in NETWORKS:
                    yield f"{name}-{precision}-batch{batch}-{kind}", name, precision, batch, kind


def make(kind: str, precision: str, on: str) -> Engine:
    if kind == "torch":
        return latency_tables.engine("torch", precision=precision, on=on)
    return latency_tables.engine(kind, precision=precision)


def examine(
    key: str, name: str, batch: int, engine: Engine, options: argparse.Namespace, until: float
) -> dict[str, Any]:
    """One setting: its table, its error, its solved budgets."""
    if time.monotonic() > until:
        raise TimeIsUp
    torch.manual_seed(options.seed)
    net = traced(name, batch, options.side)

    def progress(p: latency_tables.MeasureProgress) -> None:
        print(f"  {key} {p.done}/{p.total} {p.note}", flush=True)
        if time.monotonic() > until and p.done < p.total:
            raise TimeIsUp

    table = latency_tables.measure(
        net,
        engine,
        path=options.folder / key,
        probes=options.probes,
        seed=options.seed,
        progress=progress,
    )
    unseen = predict_held_out(table)
    calibration = table.calibration(net)
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
        "kernels_to_end_to_end": float(
            np.median([r.kernel_ms / r.latency_ms for r in table.readings])
        ),
        "error": None if table.error is None else vars(table.error),
        "rank": st.off(
            [calibration.total_ms(u.sum_ms) for u in unseen], [u.measured_ms for u in unseen]
        )["rank"]
        if len(unseen) > 2
        else None,
        "notes": list(table.notes),
        "solved": [solved(net, table, engine, scores, budget, until) for budget in st.BUDGETS],
    }


def solved(
    net: Network, table: LatencyTable, engine: Engine, scores: Any, budget: str, until: float
) -> dict[str, Any]:
    """One budget; what is taken for it is measured once more, in turn with the uncut network."""
    if time.monotonic() > until:
        raise TimeIsUp
    row, plan = st.solved(net, table, engine, scores, budget)
    if plan is None:
        return row
    probes = {"dense": net.probe({}), "pruned": net.probe(plan.sizes(), plan.dropped_blocks())}
    timings = latency_tables.compare(engine, probes, ROUNDS)
    dense, pruned = timings["dense"], timings["pruned"]
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


def traced(name: str, batch: int, side: int) -> Network:
    """The network with random weights."""
    library, _, model = NETWORKS[name].partition(":")
    if library == "timm":
        import timm

        module = timm.create_model(model, pretrained=False, img_size=side)
    else:
        import torchvision

        module = torchvision.models.get_model(model, weights=None)
    return pruner.trace(module.eval(), (torch.rand(batch, 3, side, side),), name=NETWORKS[name])


def markdown(rows: dict[str, Any]) -> str:
    """One row a setting; of each solved budget the speed-up, and measured against predicted of the
    first structure and of the one taken."""
    head = ["setting", "dense ms", "probes", "min", "median", "p95", "worst", "rank", *st.BUDGETS]
    lines = [head, ["---"] * len(head)]
    for key, row in rows.items():
        error, rank = row["error"], row["rank"]
        cells = [key, f"{row['dense_ms']:.3g}", str(row["probes"]), f"{row['minutes']:.1f}"]
        for name in ("median", "p95", "worst"):
            cells.append(f"{error[name]:.1%}" if error else "-")
        cells.append(f"{rank:.3f}" if rank is not None else "-")
        by_budget = {found["budget"]: found for found in row["solved"]}
        for found in map(by_budget.get, st.BUDGETS):
            if found is None:  # time was up
                cells.append("-")
                continue
            cells.append(
                f"{found['in_turn']['speed_up']:.2f}x, {st.off_by(found, found)}, "
                f"{st.off_by(found, found['taken'])}"
                if "taken" in found
                else found["status"]
            )
        lines.append(cells)
    devices = sorted({f"{row['device']}, {row['date']}" for row in rows.values()})
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    about = (
        "Errors are over structures held out in turn. Budgets: the speed-up of the structure that\n"
        "is taken, measured in turn with the uncut network; how much slower than predicted the\n"
        "first structure was, solved with the margin that the table states; and the one that is\n"
        "taken, after checks, in so many rounds. By python -m benchmarks.gpu."
    )
    remarks = [*devices, *(f"{key}: {note}" for key, row in rows.items() for note in row["notes"])]
    return f"{about}\n\n{table}\n\n" + "\n".join(f"- {remark}" for remark in remarks)


if __name__ == "__main__":
    main()
