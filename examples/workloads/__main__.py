"""Takes every workload the whole way and prints what of it can be pruned, and what cannot."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from .examine import BUDGET, WORKLOADS, Result, examine

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def main() -> None:
    """Print the table; write it where all workloads were asked for."""
    parser = argparse.ArgumentParser(prog="python -m examples.workloads", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(WORKLOADS))
    names = parser.parse_args().names or WORKLOADS
    torch.set_num_threads(1)
    results = []
    for name in names:
        results.append(examine(name))
        print(f"{name}: {results[-1].prunable:.1%}, {results[-1].difference:.0e}", flush=True)
    text = render(results)
    print(text)
    if len(names) == len(WORKLOADS):
        (RESULTS / "workloads.md").write_text(text, encoding="utf-8")
        content = json.dumps([asdict(result) for result in results], indent=1)
        (RESULTS / "workloads.json").write_text(content + "\n", encoding="utf-8")


def render(results: list[Result]) -> str:
    """Return the table and the reasons as Markdown."""
    lines = [
        f"# Workloads, cut at random and as solved at {BUDGET}",
        "",
        "By `python -m examples.workloads`; random weights, a latency table by formula.",
        "Difference: the largest over all plans to the masked dense network, relative to the",
        "largest output.",
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
