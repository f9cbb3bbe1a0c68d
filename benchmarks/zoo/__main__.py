"""Runs every architecture that is missing, prints the table and writes docs/support.md.

    python -m benchmarks.zoo [--only TEXT] [--again] [--jobs N]
    python -m benchmarks.zoo --one NAME          (prints one JSON line, keeps nothing)

Seconds are those of processor time of the whole line on one thread (imports included), which other
work on the machine changes little; what takes over 300 of them is run again at the end, alone, on
all cores, by the clock. Finished lines are kept in benchmarks/results/zoo.csv; the same command
continues. A line of before a column was added is done anew.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd

from .. import record
from .examine import PASSED, examine
from .listing import list_architectures

RESULTS = record.RESULTS / "zoo.csv"
SUPPORT = record.ROOT / "docs" / "support.md"
HANG_S = 300.0
"""Seconds on all cores over which a line counts as hanging.

It was 120 before lines went on to two solves, two more oracles, other inputs, copies and moves:
some thirty forward passes, which are minutes for the largest networks.
"""
SLOW = f"fails: over {HANG_S:.0f} s"
LIMIT_S = 900.0
"""Wall-clock seconds after which a process is ended: generous against a busy machine."""
ASKED = (
    "vision_transformer", "deit", "swin_transformer", "convnext", "maxxvit", "eva", "cait", "xcit",
    "levit", "efficientformer", "tiny_vit", "fastvit", "pvt_v2", "metaformer", "mlp_mixer", "nfnet",
    "res2net", "dpn", "shufflenet_v2_x0_5",
)  # fmt: skip
"""Families of which at least 60% of the parameters must be prunable."""


def main() -> None:
    """Run what is missing, print the table, write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", help="architectures whose name holds this text")
    parser.add_argument("--again", action="store_true", help="do finished lines anew")
    parser.add_argument("--jobs", type=int, default=1, help="architectures at a time (default 1)")
    parser.add_argument("--one", help="examine this one here, and print its line as JSON")
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        line = examine(options.one, options.threads)
        used = resource.getrusage(resource.RUSAGE_SELF)
        line["seconds"] = round(used.ru_utime + used.ru_stime, 1)
        print(json.dumps(line))
        return
    done = pd.read_csv(RESULTS) if RESULTS.is_file() else pd.DataFrame({"name": []})
    families = list_architectures()
    asked = [name for name in families if not options.only or options.only in name]
    finished = find_finished(done)
    todo = [name for name in asked if options.again or name not in finished]
    RESULTS.parent.mkdir(exist_ok=True)

    def keep(line: dict[str, Any]) -> None:
        nonlocal done
        done = pd.concat([done[done["name"] != line["name"]], pd.DataFrame([line])])
        done.to_csv(RESULTS, index=False)
        print(f"{line['name']}: {line['result']} ({line['seconds']:.0f} s)", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        for line in pool.map(lambda name: run_alone(name, families[name]), todo):
            keep(line)
    for name in list(done["name"][done["result"] == SLOW]):
        keep(run_alone(name, families[name], os.cpu_count() or 1))
    text = report(done)
    record.write_result(SUPPORT, text)
    print(text)


def find_finished(done: pd.DataFrame) -> set[str]:
    """Return the names whose lines have all columns, or have failed before the last of them."""
    complete = done.reindex(columns=["name", "result", *PASSED])
    new = complete["unchanged"].notna() & (complete["result"] != SLOW)
    return set(complete["name"][new | ~complete["result"].isin(["ok", SLOW])])


def run_alone(name: str, family: str, threads: int = 1) -> dict[str, Any]:
    """Examine one architecture where it can crash and hang without harm.

    On several threads its seconds are the clock's.
    """
    about = {"name": name, "family": family, "seconds": LIMIT_S}
    begin, arguments = time.monotonic(), ("--one", name, "--threads", threads)
    try:
        done = record.run_module("benchmarks.zoo", *arguments, limit_s=LIMIT_S)
    except subprocess.TimeoutExpired:
        return {**about, "result": f"over {LIMIT_S:.0f} s of wall-clock time"}
    try:
        line = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError:
        line = {"result": f"crash: {explain_end(done)}"}
    if threads > 1:
        line |= {"seconds": round(time.monotonic() - begin, 1), "threads": threads}
    if line["result"] == "ok" and line["seconds"] > HANG_S:
        line["result"] = SLOW if threads == 1 else f"{SLOW} on {threads} threads"
    return {**about, **line}


def explain_end(done: subprocess.CompletedProcess[str]) -> str:
    """Return why a process left no line: the signal that ended it, or the last that it said."""
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return f"ended by {name}" + (", for lack of memory as a rule" if name == "SIGKILL" else "")
    return done.stderr.strip().rpartition("\n")[2] or f"no output, exit {done.returncode}"


def report(done: pd.DataFrame) -> str:
    """Write docs/support.md from the results."""
    finished = done[done["name"].isin(find_finished(done))]
    rows = done.astype(object).where(done.notna(), None).sort_values("name").to_dict("records")
    asked = done[done["family"].isin(ASKED)]
    return record.render(
        "support.md.j2", done=done, finished=finished, asked=asked, rows=rows, columns=PASSED
    )


if __name__ == "__main__":
    main()
