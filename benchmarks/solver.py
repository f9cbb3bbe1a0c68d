"""Every instance by every method: value, bound, gap, status, seconds.

``python -m benchmarks.solver`` runs what is missing and prints the table.

Instances are the published MDP solver inputs, problems formulated from networks with flat scores,
and fine-grained roofline networks, all read from ``../shared/instances`` beside the repository,
problems formulated from timm networks (:mod:`.solver_networks`), and 200 random ones of eight
families (:mod:`.solver_families`). In the race of networks and families
``milp`` has as long as ``auto`` took, and at least a second: what it has "after the same time".
Every case runs in a process of its own, so that its peak memory is its own; finished cases are kept
in ``results/solver.json`` and not run again on the same machine with the same versions, so that an
interrupted benchmark goes on where it stopped.
The table is printed and written to ``results/solver.md``.
"""

import argparse
import gzip
import importlib
import importlib.util
import json
import math
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

from . import record
from .solver_families import build_family_problem
from .solver_networks import NAMES, load_formulated

INSTANCES = record.ROOT.parent / "shared" / "instances"
SEED = 0
NETS = ("resnet50", "resnet101", "deit_tiny", "deit_base")
#: Roofline networks with nearly equal channels, and with three budgets; problems of the race.
KINDS, FAMILIES = ("alike", "three"), 200
RACED = ("formulated-", "network-", "family-")
BUDGETS = (0.7, 0.5, 0.25, 0.15)
REPEATS = {"auto": 5, "lagrangian": 5, "knapsack": 5, "milp": 5, "mindtpy": 1, "frontier": 1}
#: Wall seconds for one solve on a roofline network; `milp` alone needs them.
LIMITS = {"resnet50": 100.0, "resnet101": 30.0, "deit_tiny": 30.0, "deit_base": 30.0}


def list_cases() -> list[tuple[str, str, int]]:
    """List (instance, method, repeats) in the order in which they run."""
    names = sorted(json.loads((INSTANCES / "optima.json").read_text()))
    found = [(n, m, REPEATS[m]) for n in names for m in ("auto", "lagrangian", "knapsack", "milp")]
    found += [(n, "mindtpy", 1) for n in names]
    fine = [f"roofline-{net}-{budget}" for net in NETS for budget in BUDGETS]
    found += [(n, m, REPEATS[m]) for n in fine for m in ("auto", "lagrangian", "knapsack")]
    found.append(("roofline-resnet50-0.5", "frontier", 1))
    networks = sorted(path.name[: -len(".json.gz")] for path in INSTANCES.glob("network-*.json.gz"))
    hard = [*networks, *(f"roofline-{net}-0.5-{kind}" for net in NETS for kind in KINDS)]
    raced = [*NAMES, *hard, *(f"family-{number}" for number in range(FAMILIES))]
    found += [(n, m, 1) for n in raced for m in ("auto", "milp")]
    found += [(n, "milp", 1) for n in fine]  # minutes; last, and once
    return found


def load(instance: str) -> solver.Problem:
    """Read or make the problem of an instance's name."""
    if instance.startswith("family-"):
        return build_family_problem(int(instance.split("-")[1]))
    if instance.startswith("formulated-"):
        return load_formulated(instance)
    if instance.startswith("network-"):
        text = gzip.decompress((INSTANCES / f"{instance}.json.gz").read_bytes())
        return solver.Problem.from_json(text.decode("utf-8"))
    if not instance.startswith("roofline-"):
        return solver.Problem.from_json(INSTANCES / f"{instance}.json")
    _, net, budget, *kind = instance.split("-")
    spec = importlib.util.spec_from_file_location("roofline", INSTANCES / "roofline.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if kind == ["alike"]:
        setattr(module, "SPREAD", 0.05)  # noqa: B010
    if kind == ["three"]:
        module.ALSO.update({"other_ms": 0.6, "memory": 0.5})
    made = module.make(net, 8, float(budget), SEED)
    tables = [
        solver.Table(t["name"], tuple(t["scope"]), t["value"], t["cost"]) for t in made["tables"]
    ]
    return solver.Problem(instance, made["options"], tables, made["budgets"])


def find_limit_s(name: str, budgets: int, method: str, auto_s: float | None) -> float:
    """Return the wall seconds of one solve; a race's ``milp`` has what ``auto`` took."""
    if name.startswith(RACED) or name.endswith(KINDS):
        limit = 10.0 if budgets == 1 else 30.0
        return min(limit, max(1.0, auto_s)) if auto_s and method == "milp" else limit
    return LIMITS[name.split("-")[1]] if name.startswith("roofline-") else 60.0


def run_case(instance: str, method: str, repeats: int, auto_s: float | None) -> dict[str, Any]:
    """Run one case in this process and measure it."""
    if method in ("auto", "milp", "mindtpy"):
        importlib.import_module("pyomo.contrib.appsi.solvers")  # no part of a solve's time
    problem = load(instance)
    limit = find_limit_s(instance, len(problem.budgets), method, auto_s)
    if method == "frontier":
        return _run_frontier(problem)
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
        "peak_mb": _read_peak_mb(),
    }


def _run_frontier(problem: solver.Problem) -> dict[str, Any]:
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
        "peak_mb": _read_peak_mb(),
    }


def _read_peak_mb() -> float:
    """Return the largest resident memory of this process since it began."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts the parent's memory before exec too
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def run_alone(instance: str, method: str, repeats: int, auto_s: float | None) -> dict[str, Any]:
    """Run a case in a child; one that dies or hangs is a row of the table, not the end of it."""
    if instance.startswith("formulated-"):  # in a process of its own: tracing takes a gigabyte
        record.run_module("benchmarks.solver_networks", instance, limit_s=600)
    arguments, limit_s = ("--case", instance, method, repeats, auto_s or 0), 90 + 110 * repeats
    try:
        done = record.run_module("benchmarks.solver", *arguments, limit_s=limit_s)
    except subprocess.TimeoutExpired as error:
        return {"status": "killed", "note": f"no answer after {error.timeout:.0f} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"status": "failed", "note": f"exit status {done.returncode}: {last}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def make_row(run: dict[str, Any]) -> list[str]:
    """Return one line of the table."""
    seconds = run.get("seconds")
    repeats = f" ({len(seconds)})" if seconds else ""
    return [
        run["instance"],
        run["method"],
        record.show_number(run.get("value"), ".10g"),
        record.show_number(run.get("bound"), ".10g"),
        record.show_number(run.get("gap"), ".1e"),
        run["status"],
        record.show_number(statistics.median(seconds) if seconds else None, ".3f") + repeats,
        record.show_number(max(seconds) if seconds else None, ".3f"),
        record.show_number(run.get("peak_mb"), ".0f"),
    ]


def _find_gap(run: dict[str, Any]) -> float:
    """Return the gap that a run ended with: infinite where it found no choice."""
    return math.inf if run["gap"] is None else float(run["gap"])


def judge(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures that the targets are about."""
    by = {(r["instance"], r["method"]): r for r in runs if r.get("seconds")}
    median = {k: statistics.median(r["seconds"]) for k, r in by.items()}
    optima = record.read_json(INSTANCES / "optima.json", {})
    autos = {n: r for (n, method), r in by.items() if method == "auto"}
    published = [n for n in optima if n in autos]
    fine = [n for n in autos if n.startswith("roofline") and not n.endswith(KINDS)]
    raced = [n for n in autos if n.startswith(RACED) or n.endswith(KINDS) if (n, "milp") in by]
    right = [
        n for n in published
        if autos[n]["status"] == "optimal"
        and abs(autos[n]["value"] / optima[n]["optimum"] - 1) <= 1e-9
    ]  # fmt: skip
    closed = [n for n in fine if (autos[n]["gap"] or 0.0) <= 1e-6 and autos[n]["value"] is not None]

    def summarize(names: list[str], proven: list[str]) -> dict[str, Any]:
        """Count what is proven, and take the median and the worst seconds."""
        return {
            "of": len(names),
            "proven": len(proven),
            "median": statistics.median(median[n, "auto"] for n in names) if names else None,
            "worst": max((max(autos[n]["seconds"]) for n in names), default=None),
        }

    fronts = [r for (_, method), r in by.items() if method == "frontier"]
    # In the race milp has auto's time.
    both = [n for n in autos if (n, "milp") in median and n not in raced]
    ratios = {n: median[n, "auto"] / median[n, "milp"] for n in both}
    worse = [
        n for n in raced
        if (by[n, "milp"]["value"] or -math.inf) > (autos[n]["value"] or -math.inf) * (1 + 1e-9)
        or _find_gap(autos[n]) > max(_find_gap(by[n, "milp"]), 1e-9)
    ]  # fmt: skip
    return {
        "raced": summarize(raced, [n for n in raced if (autos[n]["gap"] or 0.0) <= 1e-6]),
        "worse": worse,
        "published": summarize(published, right),
        "fine": summarize(fine, closed),
        "fronts": fronts,
        "ratios": sorted(ratios.items(), key=lambda item: item[1]),
        "peak_mb": max((r["peak_mb"] for r in [*autos.values(), *fronts]), default=None),
    }


def find_contradictions(runs: list[dict[str, Any]]) -> list[str]:
    """Find choices of a method that another's bound excludes: then a proof is false."""
    found = [(r["value"], r["method"], r["instance"]) for r in runs if r.get("value") is not None]
    best = {name: (value, method) for value, method, name in sorted(found)}
    return [
        f"{r['instance']}: bound of {r['method']} {r['bound']:.10g}, but {best[r['instance']][1]} "
        f"found {best[r['instance']][0]:.10g}"
        for r in runs
        if r.get("bound") is not None and r["instance"] in best
        if r["bound"] < best[r["instance"]][0] - 1e-8 * abs(best[r["instance"]][0])
    ]


def report(kept: dict[str, Any]) -> str:
    """Write the table in Markdown, and what holds of the targets."""
    order = {(i, m): n for n, (i, m, _) in enumerate(sorted(list_cases()))}
    runs = sorted(kept["runs"], key=lambda r: order[r["instance"], r["method"]])
    shown = [r for r in runs if r["status"] != "not run"]
    absent = sorted({f"{r['method']}: not run: {r['note']}" for r in runs if r not in shown})
    notes = sorted({f"{r['instance']} {r['method']}: {r['note']}" for r in shown if "note" in r})
    return record.render(
        "solver.md.j2",
        kept=kept,
        rows=[make_row(r) for r in shown],
        contradictions=find_contradictions(runs),
        notes=[*absent, *notes],
        **judge(runs),
    )


def main() -> None:
    """Run what is missing, print the table, write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solver", description=__doc__)
    parser.add_argument("--only", default="", help="cases whose 'instance method' contains this")
    parser.add_argument("--repeats", type=int, help="at most so many runs of a case")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--results", type=Path, default=record.RESULTS, help="folder to write to")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        instance, method, repeats, auto_s = given.case
        print(json.dumps(run_case(instance, method, int(repeats), float(auto_s))))
        return
    if not (INSTANCES / "optima.json").exists():
        sys.exit(f"{INSTANCES} is not there: this benchmark needs its instances")
    path = given.results / "solver.json"
    here = record.describe_machine(("numpy", "scipy", "pyomo", "highspy"))
    kept: dict[str, Any] = {"machine": here, "seed": SEED, "date": str(date.today()), "runs": []}
    if not given.fresh:
        left = "earlier results are from another machine or other versions"
        kept = record.resume(path, kept, "machine", left)
    done = {(r["instance"], r["method"]) for r in kept["runs"]}
    for instance, method, repeats in list_cases():
        if given.only not in f"{instance} {method}" or (instance, method) in done:
            continue
        repeats = min(repeats, given.repeats or repeats)
        run = {"instance": instance, "method": method, "date": str(date.today())}
        auto = [r for r in kept["runs"] if (r["instance"], r["method"]) == (instance, "auto")]
        auto_s = max(auto[0].get("seconds") or [0.0]) if auto else None
        run |= run_alone(instance, method, repeats, auto_s)
        kept["runs"].append(run)
        record.write_json(path, kept, end="")
        print("  ".join(make_row(run)), flush=True)
    text = report(kept)
    record.write_result(given.results / "solver.md", text)
    print("\n" + text)


if __name__ == "__main__":
    main()
