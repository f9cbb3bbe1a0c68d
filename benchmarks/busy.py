"""Whether a table that was measured on a busy machine says so, or is good all the same.

    python -m benchmarks.busy [--probes 30]

ResNet-20 is measured alone, then with one core kept busy by another process, then with that process
on the very core that measures. A table passes that carries a note, or whose error on structures
held out is at most twice the quiet one's. Exits with 1 where one fails; what was found is written
to benchmarks/results/busy.json.
"""

import argparse
import datetime
import multiprocessing
import os
import sys
from typing import Any

import torch

import latency_tables
import pruner
from latency_tables import LatencyTable
from pruner.demo import resnet20

from . import record


def main() -> None:
    """Measure alone and beside a busy process, and write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--probes", type=int, default=30)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = pruner.trace(resnet20().eval(), (torch.rand(1, 3, 32, 32),), name="demo:resnet20")
    cores = sorted(os.sched_getaffinity(0))
    quiet = measure(net, options.probes)
    print(f"alone: {quiet.error}", flush=True)
    rows = [describe("alone", quiet)]
    failed = False
    for where, busy, own in (("any core", cores, cores), ("its core", cores[:1], cores[:1])):
        process = multiprocessing.get_context("spawn").Process(target=_spin, args=(busy,))
        process.start()
        os.sched_setaffinity(0, own)
        try:
            table = measure(net, options.probes)
        finally:
            os.sched_setaffinity(0, cores)
            process.terminate()
            process.join()
        assert table.error is not None and quiet.error is not None
        good = bool(table.notes) or table.error.p95 <= 2 * quiet.error.p95
        failed |= not good
        rows.append({**describe(where, table), "passes": good})
        notes = f"; {'; '.join(table.notes)}" if table.notes else ""
        print(f"busy on {where}: {table.error}{notes}: {'passes' if good else 'FAILS'}", flush=True)
    content = {
        "device": str(quiet.device),
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "probes": options.probes,
        "seed": 0,
        "rows": rows,
    }
    record.write_json(record.RESULTS / "busy.json", content)
    sys.exit(failed)


def describe(where: str, table: LatencyTable) -> dict[str, Any]:
    """Return what a table says of itself."""
    assert table.error is not None
    errors = {name: getattr(table.error, name) for name in ("median", "p95", "worst")}
    return {"busy": where, **errors, "notes": list(table.notes)}


def measure(net: pruner.Network, probes: int) -> LatencyTable:
    """Measure a quick table of the network, by ONNX Runtime on one thread."""
    engine = latency_tables.engine("onnxruntime")
    return latency_tables.measure(net, engine, probes=probes, quick=True)


def _spin(cores: list[int]) -> None:
    os.sched_setaffinity(0, cores)
    while True:
        sum(range(10_000))


if __name__ == "__main__":
    main()
