"""Takes every workload the whole way and prints what of it can be pruned, and what cannot."""

import argparse
import time
from dataclasses import asdict
from datetime import date
from typing import Any

import torch

from benchmarks import record

from .examine import BUDGET, SEED, WORKLOADS, Result, examine

PACKAGES = ("torch", "torchvision", "numpy", "onnxruntime")


def main() -> None:
    """Print the table; write it where all workloads were asked for."""
    parser = argparse.ArgumentParser(prog="python -m examples.workloads", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(WORKLOADS))
    names = parser.parse_args().names or WORKLOADS
    torch.set_num_threads(1)
    results, begin = [], time.process_time()
    for name in names:
        results.append(examine(name))
        print(f"{name}: {results[-1].prunable:.1%}, {results[-1].difference:.0e}", flush=True)
    about = {
        "date": str(date.today()),
        "machine": record.describe_machine(PACKAGES),
        "seed": SEED,
        "cpu_s": round(time.process_time() - begin),
        "budget": BUDGET,
    }
    text = render(results, about)
    print(text)
    if len(names) == len(WORKLOADS):
        record.write_result(record.RESULTS / "workloads.md", text)
        content = {**about, "workloads": [asdict(result) for result in results]}
        record.write_json(record.RESULTS / "workloads.json", content)


def render(results: list[Result], about: dict[str, Any]) -> str:
    """Return the table and the reasons as Markdown, with when and where they were found."""
    machine = about["machine"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", *PACKAGES))
    lines = [
        f"# Workloads, cut at random and as solved at {BUDGET}",
        "",
        "By `python -m examples.workloads`; random weights, a latency table by formula.",
        "Difference: the largest over all plans to the masked dense network, relative to the",
        "largest output.",
        "",
        f"{about['date']}, {machine['cpu']} ({machine['system']}), one thread, {about['cpu_s']} s",
        f"of processor time together; {versions}; seed {about['seed']}.",
        "",
        "| workload | parameters | prunable | of MACs | Blocks | difference | loaded | ONNX |"
        " solver | gradients |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    for r in results:
        onnx = f"{r.onnx:.0e}" if isinstance(r.onnx, float) else r.onnx
        lines.append(
            f"| {r.name} | {r.parameters:,} | {r.prunable:.1%} | {r.prunable_macs:.1%} | {r.blocks}"
            f" | {r.difference:.0e} | {r.loaded:.0e} | {onnx} | {r.status} | {r.trained:.0%} |"
        )
    for r in results:
        lines += ["", f"## {r.name}", "", *(f"- {reason}" for reason in (*r.frozen, *r.notes))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
