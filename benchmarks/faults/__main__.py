"""``python -m benchmarks.faults``; see the package."""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import record

from . import __doc__ as DESCRIPTION
from . import files, fuzz, hostile, kills, numbers, places
from .cases import Case, Result
from .scene import Scene, build_scene

PARTS = ("kills", "files", "places", "hostile", "fuzz", "numbers")
VERSIONS = ("torch", "numpy", "onnxruntime", "safetensors", "pyarrow", "pydantic", "hypothesis")
_FORK = multiprocessing.get_context("fork")
TITLES = {
    "kills": "1. killed, then the same command",
    "files": "2. files of RUN damaged",
    "places": "3. disk, rights, processes, clock, place",
    "hostile": "4. files that mean harm",
    "fuzz": "5. fuzzed documents",
    "numbers": "6. degenerate data and numbers",
}


def main() -> None:
    """Try all cases that are not noted yet, and write the table."""
    options = _parse_options()
    _prepare_process()
    options.work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    scene = build_scene(options.work)
    cases = _list_cases(scene, options)
    noted = _read_notes(options.work)
    todo = [case for case in cases if case.name not in noted or options.only]
    if noted and not options.only:
        print(f"{len(cases) - len(todo)} of {len(cases)} cases are done already", file=sys.stderr)
    workers = [
        _FORK.Process(target=_attempt_all, args=(todo[k :: options.workers], scene, options))
        for k in range(options.workers)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    _leave_seconds(options.work, time.monotonic() - began)
    if options.only:
        sys.exit(any(worker.exitcode for worker in workers))
    noted = _read_notes(options.work)
    rows = [noted[case.name] for case in cases if case.name in noted]
    content = summarize(rows, options)
    text = render(content)
    print(text)
    if not options.dry:
        record.write_json(record.RESULTS / "faults.json", content)
        record.write_result(record.RESULTS / "faults.md", text)
    sys.exit(bool(content["failed"]))


def summarize(rows: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Count cases by part, kind and how they ended; failed ones are kept as they are."""
    counts: dict[tuple[str, str], collections.Counter[str]] = {}
    for row in rows:
        counts.setdefault((row["part"], row["kind"]), collections.Counter())[row["how"]] += 1
    return {
        "date": datetime.date.today().isoformat(),
        "seed": options.seed,
        "command": f"python -m benchmarks.faults --kills {options.kills} --files {options.files} "
        f"--examples {options.examples} --seed {options.seed}",
        "minutes": round(_read_seconds(options.work) / 60, 1),
        "machine": record.describe_machine(VERSIONS),
        "rows": [
            {"part": part, "kind": kind, "tried": sum(found.values()), "ended": dict(found)}
            for (part, kind), found in counts.items()
        ],
        "failed": [row for row in rows if not row["held"]],
    }


def render(content: dict[str, Any]) -> str:
    """Return the table as Markdown, with what it was made by."""
    lines = []
    for part in PARTS:
        for row in (one for one in content["rows"] if one["part"] == part):
            ended = dict(row["ended"])
            failed = ended.pop("FAILED", 0)
            how = ", ".join(f"{count} {name}" for name, count in sorted(ended.items()))
            lines.append([TITLES[part], row["kind"], str(row["tried"]), how, str(failed)])
    machine, tried = content["machine"], sum(row["tried"] for row in content["rows"])
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", *VERSIONS))
    return record.render(
        "faults.md.j2", lines=lines, content=content, machine=machine, versions=versions,
        tried=tried, failed=len(content["failed"]),
    )  # fmt: skip


def _attempt_all(cases: list[Case], scene: Scene, options: argparse.Namespace) -> None:
    """Try cases in turn and note them; ends the process with 1 where one failed."""
    failed = 0
    for done, case in enumerate(cases, 1):
        result = _attempt(case, scene)
        failed += not result.held
        if not options.only:
            with open(options.work / "notes.jsonl", "a", encoding="utf-8") as stream:
                stream.write(json.dumps(case.note(result)) + "\n")
        if not result.held or options.only:
            print(f"{case.name} {case.kind}: {result.how}: {result.detail}", flush=True)
        elif done % 20 == 0:
            print(f"  {done} of {len(cases)}", file=sys.stderr, flush=True)
    sys.exit(bool(failed))


def _attempt(case: Case, scene: Scene) -> Result:
    place = scene.work / "cases" / case.name.replace(":", "-")
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(exist_ok=True)
    try:
        result = case.attempt(place)
    except Exception as error:  # of the campaign itself: counted as a fault until it is looked at
        result = Result.fail(f"the case itself: {type(error).__name__}: {error}")
    if result.held:
        shutil.rmtree(place, ignore_errors=True)
    return result


def _list_cases(scene: Scene, options: argparse.Namespace) -> list[Case]:
    counts = {"kills": options.kills, "files": options.files, "fuzz": options.examples}
    rooms: dict[str, Any] = {
        "kills": kills, "files": files, "places": places, "hostile": hostile, "fuzz": fuzz,
        "numbers": numbers,
    }  # fmt: skip
    found: list[Case] = []
    for part in options.parts:
        more = (counts[part],) if part in counts else ()
        found += rooms[part].list_cases(scene, *more, options.seed)
    return [case for case in found if not options.only or case.name in options.only]


def _read_notes(work: Path) -> dict[str, dict[str, Any]]:
    path = work / "notes.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {note["name"]: note for note in map(json.loads, lines)}


def _leave_seconds(work: Path, seconds: float) -> None:
    (work / "spent.json").write_text(json.dumps(_read_seconds(work) + seconds), encoding="utf-8")


def _read_seconds(work: Path) -> float:
    return float(record.read_json(work / "spent.json", 0.0))


def _prepare_process() -> None:
    """Import all that commands need, once, and keep to one thread: forks share nothing then."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    for name in ("accelerate", "onnxruntime", "onnx", "pandas", "PIL.Image", "pyomo.environ",
                 "matplotlib.pyplot", "jinja2", "highspy", "pruner.run"):  # fmt: skip
        __import__(name)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--examples", type=int, default=300, help="of each kind of document")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where cases lie and are noted")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", action="append", default=[], help="cases, such as files:137")
    parser.add_argument("--dry", action="store_true", help="write no results")
    options = parser.parse_args()
    options.parts = [part for part in PARTS if part in options.parts.split(",")]
    if options.only:
        options.parts = [part for part in PARTS if any(o.startswith(part) for o in options.only)]
    if options.work is None:
        name = f"msprune-faults-{options.seed}-{os.getuid()}"
        options.work = Path(tempfile.gettempdir()) / name
    options.work = options.work.resolve()
    return options


if __name__ == "__main__":
    main()
