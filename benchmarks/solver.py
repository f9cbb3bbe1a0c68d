"""Every instance by every method: value, bound, gap, status, seconds.

``python -m benchmarks.solver`` runs what is missing and prints the table.

Instances are the published MDP solver inputs and fine-grained roofline networks, both read from
``../shared/instances`` beside the repository. Every case runs in a process of its own, so that its
peak memory is its own; finished cases are kept in ``results/solver.json`` and not run again on the
same machine with the same versions, so that an interrupted benchmark goes on where it stopped.
The table is printed and written to ``results/solver.md``.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import solver

ROOT = Path(__file__).resolve().parents[1]
INSTANCES = ROOT.parent / "shared" / "instances"
RESULTS = ROOT / "benchmarks" / "results"
SEED = 0
NETS = ("resnet50", "resnet101", "deit_tiny", "deit_base")
BUDGETS = (0.7, 0.5, 0.25, 0.15)
REPEATS = {"auto": 5, "lagrangian": 5, "knapsack": 5, "milp": 5, "mindtpy": 1, "frontier": 1}
#: Wall seconds for one solve on a roofline network; `milp` alone needs them.
LIMITS = {"resnet50": 100.0, "resnet101": 30.0, "deit_tiny": 30.0, "deit_base": 30.0}


def cases() -> list[tuple[str, str, int]]:
    """(instance, method, repeats) in the order in which they run."""
    names = sorted(json.loads((INSTANCES / "optima.json").read_text()))
    found = [(n, m, REPEATS[m]) for n in names for m in ("auto", "lagrangian", "knapsack", "milp")]
    found += [(n, "mindtpy", 1) for n in names]
    fine = [f"roofline-{net}-{budget}" for net in NETS for budget in BUDGETS]
    found += [(n, m, REPEATS[m]) for n in fine for m in ("auto", "lagrangian", "knapsack")]
    found.append(("roofline-resnet50-0.5", "frontier", 1))
    found += [(n, "milp", 1) for n in fine]  # minutes; last, and once
    return found


def load(instance: str) -> solver.Problem:
    """The problem of an instance's name."""
    if not instance.startswith("roofline-"):
        return solver.Problem.from_json(INSTANCES / f"{instance}.json")
    _, net, budget = instance.split("-")
    spec = importlib.util.spec_from_file_location("roofline", INSTANCES / "roofline.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.make(net, 8, float(budget), SEED)
    tables = [
        solver.Table(t["name"], tuple(t["scope"]), t["value"], t["cost"]) for t in made["tables"]
    ]
    return solver.Problem(instance, made["options"], tables, made["budgets"])


def run_case(instance: str, method: str, repeats: int) -> dict[str, Any]:
    """Run one case in this process and measure it."""
    if method in ("auto", "milp", "mindtpy"):
        importlib.import_module("pyomo.contrib.appsi.solvers")  # no part of a solve's time
    problem = load(instance)
    limit = LIMITS[instance.split("-")[1]] if instance.startswith("roofline-") else 60.0
    if method == "frontier":
        return _frontier(problem)
    seconds = []
    for _ in range(repeats):
        try:
            solution = solver.solve(problem, method, time_limit_s=limit)
        except solver.MissingSolverError as error:
            return {"status": "not run", "note": str(error)}
        seconds.append(solution.seconds)
    return {
        "status": solution.status.value,
        "value": solution.value if solution.choice is not None else None,
        "bound": solution.bound if math.isfinite(solution.bound) else None,
        "gap": solution.gap if math.isfinite(solution.gap) else None,
        "seconds": seconds,
        "time_limit_s": limit,
        "notes": list(solution.notes),
        "peak_mb": _peak_mb(),
    }


def _frontier(problem: solver.Problem) -> dict[str, Any]:
    dense = problem.budgets["latency_ms"] / 0.5
    started = time.perf_counter()
    front = solver.frontier(problem, [dense * s for s in np.linspace(0.1, 1.0, 100)], gap=1e-4)
    seconds = time.perf_counter() - started
    gaps = [s.gap for s in front.solutions]
    curve = front.envelope
    note = f"{sum(s.proven for s in front.solutions)} of 100 budgets proven to 1e-4"
    if curve is not None:
        share = curve.largest_loss / (curve.value[-1] - curve.value[0])
        note += f"; envelope of {len(curve.cost)} choices, largest loss {share:.2%} of the range"
    return {
        "status": "within gap" if all(s.proven for s in front.solutions) else "unproven",
        "value": None,
        "bound": None,
        "gap": max(gaps),
        "seconds": [seconds],
        "notes": [note],
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    packages = ("numpy", "scipy", "pyomo", "highspy")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{p: importlib.metadata.version(p) for p in packages},
    }


def in_process_of_its_own(instance: str, method: str, repeats: int) -> dict[str, Any]:
    """Run a case in a child; one that dies or hangs is a row of the table, not the end of it."""
    command = [sys.executable, "-m", "benchmarks.solver", "--case", instance, method, str(repeats)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=90 + 110 * repeats
        )
    except subprocess.TimeoutExpired as error:
        return {"status": "killed", "note": f"no answer after {error.timeout:.0f} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"status": "failed", "note": f"exit status {done.returncode}: {last}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def row(run: dict[str, Any]) -> list[str]:
    """One line of the table."""

    def number(x: float | None, form: str) -> str:
        return "-" if x is None else format(x, form)

    seconds = run.get("seconds")
    repeats = f" ({len(seconds)})" if seconds else ""
    return [
        run["instance"],
        run["method"],
        number(run.get("value"), ".10g"),
        number(run.get("bound"), ".10g"),
        number(run.get("gap"), ".1e"),
        run["status"],
        (number(statistics.median(seconds), ".3f") if seconds else "-") + repeats,
        number(max(seconds) if seconds else None, ".3f"),
        number(run.get("peak_mb"), ".0f"),
    ]


HEAD = ["instance", "method", "value", "bound", "gap", "status", "median s (runs)", "worst s", "MB"]


def table(lines: list[list[str]]) -> str:
    """A table in Markdown whose columns line up."""
    widths = [max(len(x[i]) for x in [HEAD, *lines]) for i in range(len(HEAD))]
    text = [HEAD, ["-" * w for w in widths], *lines]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(x, widths)) + " |" for x in text)


def bars(runs: list[dict[str, Any]]) -> list[str]:
    """What holds of the targets, in sentences."""
    by = {(r["instance"], r["method"]): r for r in runs if r.get("seconds")}
    median = {k: statistics.median(r["seconds"]) for k, r in by.items()}
    lines = []
    optima = json.loads((INSTANCES / "optima.json").read_text())
    autos = {n: by[n, "auto"] for n in optima if (n, "auto") in by}
    if autos:
        right = sum(
            r["status"] == "optimal" and abs(r["value"] / optima[n]["optimum"] - 1) <= 1e-9
            for n, r in autos.items()
        )
        times = [median[n, "auto"] for n in autos]
        lines.append(
            f"published: {right} of {len(autos)} proven at the known optimum; median "
            f"{statistics.median(times):.3f} s (target 0.2), worst run "
            f"{max(max(r['seconds']) for r in autos.values()):.3f} s (target 0.5)"
        )
    fine = {k[0]: r for k, r in by.items() if k[0].startswith("roofline") and k[1] == "auto"}
    if fine:
        proven = sum((r["gap"] or 0.0) <= 1e-6 and r["value"] is not None for r in fine.values())
        times = [median[n, "auto"] for n in fine]
        lines.append(
            f"roofline, step 8: {proven} of {len(fine)} proven to 1e-6; median "
            f"{statistics.median(times):.3f} s (target 3), worst run "
            f"{max(max(r['seconds']) for r in fine.values()):.3f} s (target 10)"
        )
    for (_, method), run in by.items():
        if method == "frontier":
            lines.append(
                f"frontier of 100 budgets, resnet50 step 8: {run['seconds'][0]:.1f} s (target "
                f"60), largest gap {run['gap']:.1e}; {run['notes'][0]}"
            )
    lines.append(agreement(runs))
    ratios = {
        n: median[n, "auto"] / median[n, "milp"]
        for n, m in median
        if m == "milp"
        if (n, "auto") in median
    }
    if ratios:
        slowest = max(ratios, key=lambda n: ratios[n])
        lines.append(
            f"auto / milp: between {min(ratios.values()):.4f} and {ratios[slowest]:.2f} "
            f"({slowest}; target 1.5)"
        )
    if fine or autos:
        peak = max(r["peak_mb"] for k, r in by.items() if k[1] in ("auto", "frontier"))
        lines.append(f"peak memory of auto and frontier: {peak:.0f} MB (target 2000)")
    return lines


def agreement(runs: list[dict[str, Any]]) -> str:
    """Whether any method found a choice that another's bound excludes: then a proof is false."""
    best: dict[str, tuple[float, str]] = {}
    for r in runs:
        if r.get("value") is not None:
            best[r["instance"]] = max(
                best.get(r["instance"], (-math.inf, "")), (r["value"], r["method"])
            )
    false = [
        f"{r['instance']}: bound of {r['method']} {r['bound']:.10g}, but {best[r['instance']][1]} "
        f"found {best[r['instance']][0]:.10g}"
        for r in runs
        if r.get("bound") is not None and r["instance"] in best
        if r["bound"] < best[r["instance"]][0] - 1e-8 * abs(best[r["instance"]][0])
    ]
    return "bounds contradicted by another method's choice: " + ("; ".join(false) or "none")


def main() -> int:
    """Run what is missing, print the table, write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solver", description=__doc__)
    parser.add_argument("--only", default="", help="cases whose 'instance method' contains this")
    parser.add_argument("--repeats", type=int, help="at most so many runs of a case")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        instance, method, repeats = given.case
        print(json.dumps(run_case(instance, method, int(repeats))))
        return 0
    if not (INSTANCES / "optima.json").exists():
        print(f"{INSTANCES} is not there: this benchmark needs its instances", file=sys.stderr)
        return 1
    given.results.mkdir(parents=True, exist_ok=True)
    path = given.results / "solver.json"
    here = machine()
    kept: dict[str, Any] = {"machine": here, "seed": SEED, "date": str(date.today()), "runs": []}
    if path.exists() and not given.fresh:
        before = json.loads(path.read_text())
        if before["machine"] == here:
            kept = before
        else:
            print("earlier results are from another machine or other versions: starting afresh")
    done = {(r["instance"], r["method"]) for r in kept["runs"]}
    for instance, method, repeats in cases():
        if given.only not in f"{instance} {method}" or (instance, method) in done:
            continue
        repeats = min(repeats, given.repeats or repeats)
        run = {"instance": instance, "method": method, "date": str(date.today())}
        run |= in_process_of_its_own(instance, method, repeats)
        kept["runs"].append(run)
        path.write_text(json.dumps(kept, indent=1))
        print("  ".join(row(run)), flush=True)
    order = {(i, m): n for n, (i, m, _) in enumerate(sorted(cases()))}
    runs = sorted(kept["runs"], key=lambda r: order[r["instance"], r["method"]])
    shown = [r for r in runs if r["status"] != "not run"]
    absent = sorted({f"{r['method']}: not run: {r['note']}" for r in runs if r not in shown})
    notes = sorted({f"{r['instance']} {r['method']}: {r['note']}" for r in shown if "note" in r})
    about = ", ".join(f"{k} {v}" for k, v in here.items())
    text = "\n".join(
        [
            "# Solver: every instance by every method",
            "",
            f"Measured {kept['date']} on {about}; seed {SEED}. Seconds are wall time of `solve`, "
            "model building included; imports and reading the instance are not. The elimination "
            "and HiGHS run on one thread each. A solve stops at 60 s; on roofline "
            "networks at 30 s, resnet50 at 100 s, looked at between HiGHS and the building of its "
            "model. Roofline `milp` runs once. `knapsack` and `lagrangian` prove nothing by "
            "design.",
            "",
            table([row(r) for r in shown]),
            "",
            *(f"- {line}" for line in [*bars(runs), *absent, *notes]),
            "",
        ]
    )
    (given.results / "solver.md").write_text(text)
    print("\n" + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
