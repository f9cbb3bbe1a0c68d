"""The main job's results: from finished example runs to benchmarks/results/ and the README.

    msprune run examples/resnet56_cifar10.yaml
    msprune run examples/mobilenetv2_imagenet.yaml
    python -m benchmarks.main_job                  # runs/resnet56_cifar10 runs/mobilenetv2_imagenet

Copies the figures of every budget out of the RUN folders, prints one table a run, adds what
`benchmarks.accuracy` found of all methods on one network, and rewrites what stands between the
markers of README.md from the files in benchmarks/results/. Nothing is measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from pruner.run import METRICS, RunFolder
from pruner.utils import write_text

from .accuracy import read_rows

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results")
EXAMPLES = ("resnet56_cifar10", "mobilenetv2_imagenet")
TITLES = {
    "resnet56_cifar10": "ResNet-56, CIFAR-10 (JPEG copies), 10,000 test images",
    "mobilenetv2_imagenet": "MobileNetV2, 1,000 ImageNet photographs, 500 of them for the test",
}
COMPARED = "resnet56"
BEGIN, END = "<!-- results: begin, by python -m benchmarks.main_job -->", "<!-- results: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("runs", nargs="*", type=Path, help="default: those of both examples")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    options = parser.parse_args()
    runs = options.runs or [p for name in EXAMPLES if (p := Path("runs") / name).is_dir()]
    for run in runs:
        path = RESULTS / f"main_job_{run.name}.json"
        RESULTS.mkdir(exist_ok=True)
        write_text(path, json.dumps(collect(run), indent=1) + "\n")
        print(f"{path.relative_to(ROOT)} is written")
    paths = sorted(RESULTS.glob("main_job_*.json"), reverse=True)
    tables = [table(json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    tables.append(side_by_side(read_rows(RESULTS), COMPARED))
    text = "\n\n".join(tables)
    print(text)
    if tables and options.readme.is_file():
        write_text(options.readme, rewritten(options.readme.read_text(encoding="utf-8"), text))


def collect(run: Path) -> dict[str, Any]:
    """The configuration, identity and figures of a RUN with one budget or several."""
    folder = RunFolder(run)
    state = folder.read_state()
    children = [RunFolder(folder / slug) for slug in state["budgets"]] or [folder]
    rows = []
    for child in children:
        metrics = child.read_json(METRICS)
        rows.append({key: value for key, value in metrics.items() if key != "structure"})
    paths = ("data", "weights")  # of the machine that it ran on
    config = {key: value for key, value in state["config"].items() if key not in paths}
    identity = {key: value for key, value in state["identity"].items() if key not in paths}
    return {
        "run": run.name,
        "config": config,
        "identity": identity,
        "versions": state["versions"],
        "budgets": rows,
    }


def table(result: dict[str, Any]) -> str:
    """One run as Markdown."""
    rows = result["budgets"]
    dense, device = rows[0]["dense"], rows[0]["device"]
    lines = [
        f"**{TITLES.get(result['run'], result['run'])}**",
        "",
        "| budget | predicted | measured | faster | parameters | accuracy, cut | accuracy, tuned |",
        "|---|---|---|---|---|---|---|",
        f"| dense | | {_ms(dense)} | 1.00× | {dense['parameters']:,} | "
        f"{_share(dense['accuracy'])} | {_share(dense.get('accuracy_after_same_finetune'))} |",
    ]
    for row in rows:
        pruned = row["pruned"]
        faster = row["dense"]["latency_ms"] / pruned["latency_ms"]
        lines.append(
            f"| {row['budget']} = {row['budget_ms']:.3g} ms | {pruned['predicted_ms']:.3g} ms | "
            f"{_ms(pruned)} | {faster:.2f}× | {pruned['parameters']:,} | "
            f"{_share(pruned['accuracy_before_finetune'])} | {_share(pruned['accuracy'])} |"
        )
    runs = min(row["pruned"]["runs"] for row in rows)
    proofs = {row["solver"]["status"] for row in rows}
    lines += [
        "",
        f"Median ± interquartile range of at least {runs} runs, dense and pruned in turn, on "
        f"{device}. "
        f"Solver: {', '.join(sorted(proofs))}. Fine-tune: {rows[0].get('finetune', 'none')}.",
    ]
    return "\n".join(lines)


def side_by_side(rows: pd.DataFrame, model: str) -> str:
    """All methods on one network at the same measured latencies: mean accuracies, tuned alike."""
    rows = rows[rows["model"] == model]
    first = rows.iloc[0]
    alike = ["epochs", "train_images", "amp", "device"]
    rows = rows[(rows[alike] == first[alike]).all(axis=1)]
    found = rows.pivot_table("accuracy", "method", "latency_share")
    found = found[sorted(found.columns, reverse=True)]
    found = found.sort_values(found.columns[-1], ascending=False)
    lines = [
        f"**{model}: methods side by side**, accuracy at the same measured latency",
        "",
        "| method | " + " | ".join(f"{share}%" for share in found.columns) + " |",
        "|---|" + "---|" * len(found.columns),
    ]
    for method, means in found.iterrows():
        shown = ["-" if pd.isna(mean) else f"{mean:.1%}" for mean in means]
        lines.append(f"| {method} | {' | '.join(shown)} |")
    lines += [
        "",
        f"Shares of the dense latency. Every method's structure is tuned alike, "
        f"{first['epochs']} epochs of {first['train_images']:,} images, mean of "
        f"{rows['seed'].nunique()} seeds; dense {first['dense_accuracy']:.1%}; on "
        f"{first['device']}.",
    ]
    return "\n".join(lines)


def rewritten(readme: str, text: str) -> str:
    """The README with the block between the markers replaced."""
    before, found_begin, rest = readme.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found_begin or not found_end:
        raise SystemExit("README.md has lost the markers of its results")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def _ms(side: dict[str, Any]) -> str:
    return f"{side['latency_ms']:.3g} ± {side['spread_ms']:.1g} ms"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"


if __name__ == "__main__":
    main()
