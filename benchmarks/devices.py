"""Whether a device measured over there agrees with the same device measured here.

    python -m benchmarks.devices [--model timm:mobilenetv3_small_100] [--probes 20] [--host HOST]
                                 [--python PATH]

The network's table is measured here; by a bundle that is run by hand, in a folder of this machine;
and, with ``--host``, over ssh, best of a loopback host. PATH is a Python of numpy and onnxruntime
only. Totals of the probes, and predictions of structures that no table has seen, are compared: the
medians agree within 3%, or it exits with 1. Numbers mean something on a quiet machine only. Results
are written to benchmarks/results/devices.json.
"""

import argparse
import datetime
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import latency_tables
import pruner
from latency_tables import (
    BundledEngine,
    CarriedEngine,
    CollectedEngine,
    LatencyTable,
    Setting,
    open_carrier,
)
from pruner.models import load_model

from . import record

SETTING = Setting("onnxruntime", 1, "fp32")
PACKAGES = ("torch", "onnxruntime", "onnx", "numpy", "scipy", "timm")
SEED = 0  # of the choice of probes, and of the structures that are predicted
MOST_OFF = 0.03
UNSEEN = 40


def main() -> None:
    """Measure here and there, and write how far they are apart."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", default="timm:mobilenetv3_small_100")
    parser.add_argument("--probes", type=int, default=20)
    parser.add_argument("--host", help="a host that ssh reaches without a password")
    parser.add_argument("--python", default=sys.executable, help="the Python over there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dense = load_model(options.model)
    shape = (1, *(dense.preset.input_size or (3, 224, 224)))
    net = pruner.trace(dense.module, (torch.rand(shape),), name=options.model)
    began = time.monotonic()
    engine = latency_tables.engine("onnxruntime", threads=1)
    here = latency_tables.measure(net, engine, probes=options.probes, seed=SEED)
    rows = [describe("here", here, here, net, time.monotonic() - began)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        began = time.monotonic()
        table = measure_by_hand(net, folder, options.probes, options.python)
        row = describe("bundle", table, here, net, time.monotonic() - began)
        models = folder / "models"
        row["bundle_bytes"] = sum(p.stat().st_size for p in (*models.iterdir(), *folder.iterdir())
                                  if p.is_file())  # fmt: skip
        rows.append(row)
    if options.host:
        began = time.monotonic()
        there = CarriedEngine(open_carrier(f"ssh:{options.host}"), SETTING, options.python)
        table = latency_tables.measure(net, there, probes=options.probes, seed=SEED)
        rows.append(describe(f"ssh:{options.host}", table, here, net, time.monotonic() - began))
    for row in rows:
        print(
            f"{row['where']}: {row['seconds']:.0f} s, {row['probes_off']:+.1%} (probes), "
            f"{row['predictions_off']:.1%} (predictions); {row['error']}",
            flush=True,
        )
    content = {
        "machine": record.describe_machine(PACKAGES), "seed": SEED,
        "device": str(here.device), "date": datetime.date.today().isoformat(),
        "model": options.model, "probes": options.probes, "rows": rows,
    }  # fmt: skip
    record.write_json(record.RESULTS / "devices.json", content)
    sys.exit(any(max(abs(r["probes_off"]), r["predictions_off"]) > MOST_OFF for r in rows[1:]))


def measure_by_hand(net: pruner.Network, folder: Path, probes: int, python: str) -> LatencyTable:
    """Write a bundle, run it as a user does, and collect it."""
    engine = BundledEngine(folder, SETTING)
    latency_tables.write_probe_bundle(net, engine, probes=probes, seed=SEED)
    subprocess.run(["sh", str(folder / "run.sh")], env={"PYTHON": python, "PATH": "/usr/bin:/bin"},
                   stdout=subprocess.DEVNULL, check=True)  # fmt: skip
    return latency_tables.measure(net, CollectedEngine(folder, SETTING), probes=probes, seed=SEED)


def describe(
    where: str, table: LatencyTable, here: LatencyTable, net: pruner.Network, seconds: float
) -> dict[str, Any]:
    """Compare a table with the one measured here: probes as measured, and structures unseen."""
    totals = {r.key: here.total_ms(r) for r in here.readings}
    ratios = [table.total_ms(r) / totals[r.key] for r in table.readings if r.key in totals]
    random, off = np.random.default_rng(SEED), []
    for _ in range(UNSEEN):
        sizes = {name: int(random.choice(options)) for name, options in net.sizes().items()}
        widths = net.cell_sizes(sizes)
        cells = [(cell.spec, widths[cell.name]) for cell in net.cells()]
        off.append(abs(table.predict_total(cells) / here.predict_total(cells) - 1))
    return {
        "where": where, "seconds": round(seconds, 1), "error": str(table.error),
        "probes_off": float(np.median(ratios)) - 1, "predictions_off": float(np.median(off)),
    }  # fmt: skip


if __name__ == "__main__":
    main()
