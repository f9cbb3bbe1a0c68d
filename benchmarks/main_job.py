"""The main job's results: from finished example runs to benchmarks/results/ and the README.

    msprune run examples/resnet56_cifar10.yaml
    msprune run examples/mobilenetv2_imagenet.yaml
    python -m benchmarks.main_job                  # runs/resnet56_cifar10 runs/mobilenetv2_imagenet

Copies the figures of every budget out of the RUN folders, prints one table a run, adds what
`benchmarks.accuracy` found of all methods on one network, and rewrites what stands between the
markers of README.md from the files in benchmarks/results/. Nothing is measured.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from pruner.run import METRICS, RunFolder

from . import record
from .accuracy import read_rows

EXAMPLES = ("resnet56_cifar10", "mobilenetv2_imagenet")
TITLES = {
    "resnet56_cifar10": "ResNet-56, CIFAR-10 (JPEG copies), 10,000 test images",
    "mobilenetv2_imagenet": "MobileNetV2, 1,000 ImageNet photographs, 500 of them for the test",
}
COMPARED = "resnet56"
BEGIN, END = "<!-- results: begin, by python -m benchmarks.main_job -->", "<!-- results: end -->"


def main() -> None:
    """Collect the runs, print their tables, write them into the README."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("runs", nargs="*", type=Path, help="default: those of both examples")
    parser.add_argument("--readme", type=Path, default=record.ROOT / "README.md")
    options = parser.parse_args()
    runs = options.runs or [p for name in EXAMPLES if (p := Path("runs") / name).is_dir()]
    for run in runs:
        path = record.RESULTS / f"main_job_{run.name}.json"
        record.write_json(path, collect(run))
        print(f"{path.relative_to(record.ROOT)} is written")
    paths = sorted(record.RESULTS.glob("main_job_*.json"), reverse=True)
    results = [record.read_json(path, {}) for path in paths]
    text = report(results, read_rows(record.RESULTS))
    print(text)
    if options.readme.is_file():
        readme = options.readme.read_text(encoding="utf-8")
        record.write_result(options.readme, replace_block(readme, text))


def collect(run: Path) -> dict[str, Any]:
    """Read the configuration, identity and figures of a RUN with one budget or several."""
    folder = RunFolder(run)
    state = folder.read_state()
    children = [RunFolder(folder / slug) for slug in state["budgets"]] or [folder]
    figures = [child.read_json(METRICS) for child in children]
    rows = [{key: value for key, value in own.items() if key != "structure"} for own in figures]
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


def report(results: list[dict[str, Any]], rows: pd.DataFrame) -> str:
    """Write a table of every run, and one of all methods on one network, in Markdown.

    The latter at the same measured latencies: mean accuracies, tuned alike.
    """
    rows = rows[rows["model"] == COMPARED]
    first = rows.iloc[0]
    alike = ["epochs", "train_images", "amp", "device"]
    rows = rows[(rows[alike] == first[alike]).all(axis=1)]
    found = rows.pivot_table("accuracy", "method", "latency_share")
    found = found[sorted(found.columns, reverse=True)]
    found = found.sort_values(found.columns[-1], ascending=False).astype(object)
    return record.render(
        "main_job.md.j2", results=results, titles=TITLES, model=COMPARED, first=first,
        methods=found.where(found.notna(), None), seeds=rows["seed"].nunique(),
    ).rstrip("\n")  # fmt: skip


def replace_block(readme: str, text: str) -> str:
    """Return the README with the block between the markers replaced."""
    before, found_begin, rest = readme.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found_begin or not found_end:
        raise SystemExit("README.md has lost the markers of its results")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


if __name__ == "__main__":
    main()
