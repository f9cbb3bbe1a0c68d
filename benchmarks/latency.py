"""How well latency tables predict the device: error on structures that no table has seen.

    python -m benchmarks.latency [--only resnet50-onnxruntime] [--threads 1] [--quick]

For every network and engine: the table is measured; 40 random structures between 20% and 100% of
the dense latency are timed, and the ones that the solver picks for 70%, 50% and 30% of it, at once
and after checks (as msprune solve does); and three models are held against them: this table, every
cell timed alone at the very widths, and HALP's linear model with frozen input widths. All are
compared at one speed of the machine: the uncut network is timed in turn with every structure, and
its drift is taken out (the errors without that are kept beside, as "raw"). Every structure is
visited twice, minutes apart, and the mean taken; how far the two differ tells the machine's own
noise. Visits where it was off by more than 5% are repeated at the end, up to twice. ResNet-101 is
measured with ResNet-50's table at hand, and without timing its cells one by one; elsewhere that is
done for every fourth structure, or fewer where there are many cells. Tables and structures are kept
in --work (default runs/latency), and the same command continues; rows go to
benchmarks/results/latency.json and .md. --quick tries everything out on a few small structures, and
writes no results. Run it on an otherwise idle machine.
"""

import argparse
import datetime
from pathlib import Path
from typing import Any

import torch

import latency_tables
import pruner
from latency_tables import LatencyTable
from latency_tables.regression import average_readings

from . import record
from . import structures as st

RESULTS = record.RESULTS / "latency.json"
NETWORKS = {
    "resnet18": "torchvision:resnet18",
    "resnet50": "torchvision:resnet50",
    "resnet101": "torchvision:resnet101",
    "mobilenet_v2": "torchvision:mobilenet_v2",
    "mobilenet_v3_large": "torchvision:mobilenet_v3_large",
    "efficientnet_b0": "torchvision:efficientnet_b0",
    "densenet121": "torchvision:densenet121",
    "vit_s16": "timm:vit_small_patch16_224",
    "swin_t": "timm:swin_tiny_patch4_window7_224",
    "convnext_t": "timm:convnext_tiny",
}
SECOND_OF_FAMILY = {"resnet101": "resnet50"}
ENGINES = ("onnxruntime", "openvino", "torch")
UNSEEN = 40
ALONE = 4  # of so many structures one is timed cell by cell,
MOST_ALONE = 600  # or fewer: each cell at its widths is a network of its own
MODELS = {
    "in_place": "in place",
    "raw": "in place, raw",
    "again": "two visits",
    "cell_by_cell": "cell by cell",
    "frozen_linear": "frozen input",
}
SHOWN: dict[str, Any] = {"models": MODELS, "describe_gap": st.describe_gap}


def main() -> None:
    """Measure all pairs, print the table, write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", help="pairs NETWORK-ENGINE whose name holds this text")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="try everything out, write nothing")
    parser.add_argument("--work", type=Path, default=Path("runs/latency"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = record.read_json(RESULTS, [])
    for name in NETWORKS:
        for kind in ENGINES:
            pair = f"{name}-{kind}"
            if options.only and options.only not in pair:
                continue
            folder = options.work / f"{pair}-{options.threads}{'-quick' if options.quick else ''}"
            row = examine(name, kind, folder, options)
            print(record.render("latency_row.md.j2", row=row, **SHOWN), end="", flush=True)
            if not options.quick:
                same = (row["network"], row["engine"], row["device"])
                rows = [r for r in rows if (r["network"], r["engine"], r["device"]) != same]
                rows.append(row)
                record.write_json(RESULTS, rows)
                record.write_result(RESULTS.with_suffix(".md"), report(rows))
    print(report(rows))


def examine(name: str, kind: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one network on one engine."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    side = 64 if options.quick and "vit" not in name and "swin" not in name else 224
    net = st.trace_network(NETWORKS[name], 1, side)
    engine = latency_tables.engine(kind, threads=options.threads)
    after = SECOND_OF_FAMILY.get(name)
    table = latency_tables.measure(
        net,
        engine,
        path=folder,
        library=None if after is None else make_library(name, after, folder),
        probes=8 if options.quick else None,
        quick=options.quick,
        seed=options.seed,
        progress=lambda p: print(f"  {name} {kind} {p.done}/{p.total} {p.note}", flush=True),
    )
    before = st.read_structures(net, engine, folder)
    chosen = st.draw_structures(net, table, 4 if options.quick else UNSEEN, options.seed, before)
    visits = st.time_structures(net, engine, chosen, folder, table, options.quick)
    readings = [average_readings(own) for own in visits]
    actual = st.remove_drifts(table, readings)
    one, other = (st.remove_drifts(table, [own[i] for own in visits]) for i in range(st.VISITS))
    in_place = [st.predict_in_place(table, r) for r in readings]
    models = {
        "in_place": (in_place, actual),
        "frozen_linear": ([st.predict_frozen_linear(net, table, r) for r in readings], actual),
    }
    every = max(ALONE, -(-len(net.cells()) * len(readings) // MOST_ALONE))
    if after is None:
        sums = st.sum_cells(net, engine, readings[::every], folder)
        models["cell_by_cell"] = (sums, actual[::every])
    models |= {"again": (other, one), "raw": (in_place, [r.latency_ms for r in readings])}
    scores = pruner.score(net, None, None, "magnitude")
    own = [r for r in table.readings if r.network == readings[0].network]
    dense = next(r for r in own if not r.sizes and not r.dropped)
    return {
        "network": name,
        "engine": kind,
        "device": str(table.device),
        "date": datetime.date.today().isoformat(),
        "seed": options.seed,
        "torch": torch.__version__,
        "probes": len(own),
        "minutes": table.provenance["seconds"] / 60,
        "after": after,
        "dense_ms": table.uncut_ms(net),
        "kernels_to_end_to_end": dense.kernel_ms / dense.latency_ms,
        "unseen": len(readings),
        "stated": None if table.error is None else table.error.p95,
        "notes": list(table.notes),
        **{model: st.summarize_errors(*pair) for model, pair in models.items()},
        "solved": [st.solve(net, table, engine, scores, budget)[0] for budget in st.BUDGETS],
    }


def make_library(name: str, after: str, folder: Path) -> Path:
    """Make a library that holds the table of the network before, and return its folder."""
    first = folder.with_name(folder.name.replace(name, after))
    if not (first / "latency.parquet").is_file():
        command = f"python -m benchmarks.latency --only {after}"
        raise SystemExit(f"{name} comes after {after}: {command}")
    latency_tables.Library(folder / "library").add(LatencyTable.load(first))
    return folder / "library"


def report(rows: list[dict[str, Any]]) -> str:
    """Write an overview, the newest row of every network and engine, and one table a device."""
    newest = {(row["network"], row["engine"]): row for row in sorted(rows, key=lambda r: r["date"])}
    return record.render(
        "latency.md.j2",
        overview={n: [summarize(newest.get((n, engine))) for engine in ENGINES] for n in NETWORKS},
        devices=sorted({row["device"] for row in rows}),
        rows=rows,
        after=SECOND_OF_FAMILY,
        engines=ENGINES,
        **SHOWN,
    )


def summarize(row: dict[str, Any] | None) -> str:
    """Write a row in a cell of the overview."""
    if row is None:
        return "-"
    error = row["in_place"]
    text = f"{error['median']:.1%} / {error['p95']:.1%} / {error['rank']:.3f}"
    taken = [(solved.get("taken", solved), solved["budget_ms"]) for solved in row["solved"]]
    timed = [(t, budget_ms) for t, budget_ms in taken if "measured_ms" in t]
    if not timed:
        return text
    off = max((t["measured_ms"] / t["predicted_ms"] - 1 for t, _ in timed), key=abs)
    text += f", {off:+.1%}"
    if any(t["measured_ms"] > budget_ms for t, budget_ms in timed):
        text += ", over"
    return text if len(timed) == len(taken) else f"{text} ({len(timed)} of {len(taken)})"


if __name__ == "__main__":
    main()
