"""What tools can do, each tried: this package and three others; writes results/features.{json,md}.

    python -m benchmarks.features [--only TEXT] [--tool NAME] [--fresh]

with ``pip install torch-pruning torch-kirigami nvidia-modelopt torchprofile requests`` beside the
extras zoo and openvino. Twelve networks of torchvision and timm at random weights, and small
modules, are pruned by every tool to 60% of their multiply-adds; then what is left is asked whether
it runs (at the input that it was pruned with, in another batch, at another size), trains, copies,
exports, is read back from a file without pickle, and answers as the dense network does with the
removed positions silenced (``checks``). Every pair of a tool and a network has a process of
its own, with a limit of 180 seconds of processor time. Finished pairs are kept, and not run again
with the same versions.
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import date
from typing import Any

from .. import record
from .tools import PACKAGE, PRUNE

SHARE = 0.6
SEED = 0
LIMIT_S = 180
"""Of processor time; of the clock, where the machine is shared, five times as much."""
NETWORKS = (
    "torchvision:resnet18", "torchvision:mobilenet_v3_small", "timm:vit_tiny_patch16_224",
    "torchvision:shufflenet_v2_x0_5", "timm:convnext_atto", "torchvision:regnet_y_400mf",
    "torchvision:swin_t", "timm:pvt_v2_b0", "timm:mobilevit_xxs", "torchvision:efficientnet_b0",
    "torchvision:densenet121", "torchvision:vit_b_16",
)  # fmt: skip
PATH = record.RESULTS / "features.json"


def list_rows() -> list[str]:
    """Name all that is asked of every tool: questions, small modules, networks."""
    from .rows import MODULES, QUESTIONS

    return [*QUESTIONS, *MODULES, *NETWORKS]


def run_row(tool: str, row: str) -> Iterator[tuple[str, Any]]:
    """Yield answers for one tool and one row, as they are known."""
    import torch

    from .checks import check_all, stamp
    from .rows import MODULES, QUESTIONS
    from .tools import Case, explain

    if row in QUESTIONS:
        try:
            yield "answer", QUESTIONS[row](tool, SEED)
        except Exception as error:
            yield "answer", f"no: {explain(error)}"
        return
    side, other = (32, 48) if row in MODULES else (224, 192)

    def make() -> Any:
        torch.manual_seed(SEED)
        return stamp(MODULES[row]() if row in MODULES else record.build_module(row), SEED)

    torch.manual_seed(SEED)
    inputs = {
        "traced": torch.rand(1, 3, side, side),
        "another batch": torch.randn(3, 3, side, side) - 0.5,
        "another size": torch.randn(1, 3, other, other),
    }
    begin = time.process_time()
    try:
        pruned = PRUNE[tool](Case(make, inputs["traced"], SHARE, SEED))
    except Exception as error:
        yield "runs", f"no: {explain(error)}"
        return
    yield "seconds", round(time.process_time() - begin)
    if pruned.note:
        yield "note", pruned.note
    yield from check_all(make(), pruned, inputs)


def work(tool: str, row: str) -> None:
    """Print all answers known so far, as one line of JSON each time that one is added."""
    if row in NETWORKS:  # some kernels' processor clocks are coarse under such a limit
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S + 1))
    import torch

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    answers: dict[str, Any] = {}
    print(json.dumps(answers), flush=True)
    for name, answer in run_row(tool, row):
        answers[name] = answer
        print(json.dumps(answers), flush=True)


def ask(tool: str, row: str) -> dict[str, Any]:
    """Run one tool on one row in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.features", "--work", tool, row]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=5 * LIMIT_S, cwd=record.ROOT
        )
        output, end = done.stdout, _explain_end(done)
    except subprocess.TimeoutExpired as error:
        output, end = _decode(error.stdout), f"over {LIMIT_S} s"
    answers: dict[str, Any] = {}
    for line in output.splitlines():
        if line.startswith("{"):
            try:
                answers = json.loads(line)
            except ValueError:
                continue
    if end:
        answers["end"] = end
    return answers


def _explain_end(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == 0:
        return ""
    if done.returncode == -signal.SIGXCPU:
        return f"over {LIMIT_S} s"
    errors = done.stderr.strip().splitlines()
    return f"exit code {done.returncode}: {errors[-1][:150] if errors else ''}"


def _decode(output: str | bytes | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def say_runs(run: dict[str, Any]) -> str:
    """Say in short what became of one tool on one network."""
    runs = str(run.get("runs", f"no: {run.get('end', 'nothing came')}"))
    if runs != "yes":
        return runs
    wrong = [k for k, v in run.items() if str(v).startswith(("no:", "differs"))]
    text = f"MACs {run['macs']:.2f}, parameters {run['params']:.2f}"
    if wrong:
        text += f"; not: {', '.join(wrong)}"
    if "end" in run:
        text += f"; {run['end']}"
    return text


def report(kept: dict[str, Any]) -> str:
    """Write the tables in Markdown."""
    from .rows import MODULES, QUESTIONS, describe_question

    runs = {(run["tool"], run["row"]): run for run in kept["runs"]}
    return record.render(
        "features.md.j2",
        kept=kept,
        runs=runs,
        tools=list(PRUNE),
        questions=list(QUESTIONS),
        networks=[row for row in (*MODULES, *NETWORKS) if any((t, row) in runs for t in PRUNE)],
        missing=[row for row in NETWORKS if not all((t, row) in runs for t in PRUNE)],
        describe={name: describe_question(name) for name in [*QUESTIONS, *MODULES]},
        say=say_runs,
        counts=count_answers(runs),
        share=SHARE,
        limit=LIMIT_S,
    )


def count_answers(runs: dict[tuple[str, str], dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Count, for every check and tool, on how many of the networks it holds, of those it fits."""
    checks = (
        "runs", "own class", "another batch", "another size", "oracle", "trains", "deepcopy",
        "reload", "torch.export", "onnx",
    )  # fmt: skip
    counts: dict[str, dict[str, str]] = {}
    for check in checks:
        counts[check] = {}
        for tool in PRUNE:
            known = [runs[tool, row] for row in NETWORKS if (tool, row) in runs]
            values = [str(run.get(check, "no:")) for run in known]
            asked = [value for value in values if not value.startswith("- ")]
            good = [v for v in asked if not v.startswith(("no:", "differs"))]
            counts[check][tool] = f"{len(good)} of {len(asked)}"
    return counts


def main() -> None:
    """Run what is missing, print the table, write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument("--tool", choices=list(PRUNE), help="this tool alone")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--work", nargs=2, metavar=("TOOL", "ROW"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(*given.work)
        return
    packages = [*PACKAGE.values(), "torch", "torchvision", "timm", "onnxruntime"]
    here = record.describe_machine(packages)
    kept: dict[str, Any] = {"machine": here, "seed": SEED, "date": str(date.today()), "runs": []}
    if not given.fresh:
        kept = record.resume(PATH, kept, "machine", "other versions or another machine")
    done = {(run["tool"], run["row"]) for run in kept["runs"]}
    for row in list_rows():
        for tool in [given.tool] if given.tool else PRUNE:
            if given.only not in row or (tool, row) in done:
                continue
            run = {"tool": tool, "row": row, "date": str(date.today()), **ask(tool, row)}
            kept["runs"].append(run)
            record.write_json(PATH, kept)
            print(json.dumps(run), flush=True)
    text = report(kept)
    record.write_result(record.RESULTS / "features.md", text)
    print(text)


if __name__ == "__main__":
    main()
