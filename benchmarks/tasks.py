"""Every task: its own metric at a measured latency, of this package and of plain ways to prune.

    python -m benchmarks.tasks [--rows crnn minilm] [--budgets 70 50] [--methods msprune uniform]
                               [--stage choose|judge] [--quick] [--remeasure]

In the repository's root; examples/README.md says how to get the data and wheels. Networks that come
untrained are trained first, for as long as `benchmarks.task_cases` says. Every method picks a
structure for every budget, a share of the dense latency that is measured on ONNX Runtime, dense and
pruned in turn (`benchmarks.matching`). All structures are then repaired and tuned alike, with the
dense network as the teacher: what differs is what was picked. `choose` needs an otherwise idle
machine, `judge` does not. With --quick tables are coarse and times short, as for a machine that
does other work; what is measured so is marked as loaded, and --remeasure times it anew: a structure
that then misses its budget is chosen anew.

Rows are kept in benchmarks/results/tasks.json, their table in tasks.md, structures in plans/;
latency tables, scores, checkpoints in --work (default runs/tasks). The same command goes on where
it stopped, and a row is never done twice. With other --epochs, --train or --test it is done anew.
"""

import argparse
import json
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import nn

import latency_tables
import pruner
import solver
from latency_tables import LatencyTable
from pruner import Plan, PrunerError
from pruner.run import Config, FewerImages, Workspace
from pruner.surgery import load, save
from pruner.tasks import MetricKind
from pruner.tuning import Recipe, evaluate, finetune
from pruner.utils import digest_json

from . import record
from .matching import ABOVE, BELOW, Matcher, read_plans, write_plans
from .peers import METHODS, Setting
from .structures import ROUNDS, time_in_turn
from .task_cases import CASES

OURS = "msprune, measured"
COMPARED = (OURS, "uniform", "global magnitude")
BUDGETS = (70, 50)
QUICK_ROUNDS = 10
STAGES = ("choose", "judge")
PACKAGES = ("torch", "torchvision", "onnxruntime", "numpy", "highspy")
IDENTITY = ("network", "method", "budget", "seed", "device")
"""Of one row: another of the same takes its place."""
TIMES = ("measured_ms", "spread_ms", "dense_ms", "loaded", "device")
HEAD = ("latency", "method", "measured ms", "of dense", "cut", "repaired", "tuned", "minutes")

Row = dict[str, Any]


def main() -> None:
    """Run what is missing, print the table, write it down."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tasks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rows", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--budgets", nargs="*", type=int, default=BUDGETS, help="percent of dense")
    parser.add_argument(
        "--methods", nargs="*", default=COMPARED, choices=list(METHODS), metavar="METHOD",
        help=f"default: {'; '.join(COMPARED)}; there are {'; '.join(METHODS)}",
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, help="of tuning (default: the case's)")
    parser.add_argument("--train", type=int, help="samples of an epoch (default: the case's)")
    parser.add_argument("--test", type=int, help="samples of the metric (default: the case's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", choices=STAGES, help="default: both")
    parser.add_argument("--quick", action="store_true", help="coarse tables, marked as loaded")
    parser.add_argument("--remeasure", action="store_true", help="time anew what was loaded")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/tasks"))
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    options = parser.parse_args()
    if options.quick and options.remeasure:
        parser.error("--quick would mark as loaded what --remeasure is to measure well")
    torch.set_num_threads(options.threads)
    for name in options.rows:
        CASES[name].prepare()
        bench = Bench(name, options)
        for stage in (options.stage,) if options.stage else STAGES:
            for method in options.methods:
                for budget in options.budgets:
                    getattr(bench, stage)(method, budget)
    text = report(read_rows(options.results), options.results)
    record.write_result(options.results / "tasks.md", text)
    print(text, end="")


class Bench:
    """One network: its table, what every method picked, its rows."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        """Trace a network and open its data."""
        self.name, self.case, self.options = name, CASES[name], options
        content = {**self.case.config, "seed": options.seed}
        content["measure"] = {"threads": options.threads}
        self.space = space = Workspace.begin(Config.from_dict(content))
        self.task, self.data, self.engine = space.task, space.data, space.engine
        self.device = str(self.engine.device.at_batch(space.input_shape[0]))
        self.epochs = self.case.epochs if options.epochs is None else options.epochs
        self.train = options.train or self.case.train
        self.test = options.test or self.case.test
        self.folder = options.work / f"{name}-{digest_json([content, self.case.fit])[:8]}"
        self.folder.mkdir(parents=True, exist_ok=True)
        fits = list(
            self.data.train(self.case.batch, augment=False, seed=options.seed, limit=self.case.fit)
        )
        self.setting = Setting(
            space.dense.module, space.net, self.measure, fits, self.folder, True, self.task
        )
        self.matchers: dict[str, Matcher] = {}

    def measure(self) -> LatencyTable:
        """Measure the table, or read it where it is there."""
        quick = self.options.quick
        return latency_tables.measure(
            self.space.net, self.engine, quick=quick,
            path=self.folder / ("table-quick" if quick else "table"),
            progress=lambda p: print(f"  {self.name} {p.done}/{p.total} {p.note}", flush=True),
        )  # fmt: skip

    def make_matcher(self, method: str) -> Matcher:
        """Make it once; a method scores when it is first asked for a structure."""
        if method not in self.matchers:
            rounds = QUICK_ROUNDS if self.options.quick else ROUNDS
            made = METHODS[method](self.setting)
            self.matchers[method] = Matcher(made, self.setting, self.engine, rounds)
        return self.matchers[method]

    def choose(self, method: str, budget: int) -> None:
        """Keep the structure of a method at a budget, with what it measures here."""
        known = self.find_plan(method, budget)
        if known is not None and not (self.options.remeasure and known["loaded"]):
            return
        found = self.time_again(known) if known is not None else None
        if found is None:
            try:
                found = self.make_matcher(method).match(budget / 100)
            except (PrunerError, solver.SolverError) as error:
                said = " ".join(str(error).split())
                print(f"{self.name}, {method}, {budget}%: {said}", flush=True)
                return
        found = {
            "method": method, "latency_share": budget, **found, "device": self.device,
            "loaded": self.options.quick,
        }  # fmt: skip
        self.keep_plan(found)
        share = found["measured_ms"] / found["dense_ms"]
        print(f"{self.name}, {method}, {budget}%: measures {share:.1%}", flush=True)

    def find_plan(self, method: str, budget: int) -> Row | None:
        """Return what a method picked for this device, or elsewhere if that is to be timed anew."""
        known = [
            p for p in read_plans(self.options.results, self.name)
            if (p["method"], p["latency_share"]) == (method, budget)
        ]  # fmt: skip
        known.sort(key=lambda p: p["device"] != self.device)
        anywhere = self.options.remeasure and known and known[0]["loaded"]
        return known[0] if known and (anywhere or known[0]["device"] == self.device) else None

    def time_again(self, known: Row) -> Row | None:
        """Return a structure with its time of now; None where that is not what was asked for."""
        plan, aim = Plan.from_json(json.dumps(known["plan"])), known["latency_share"] / 100
        net = self.make_matcher(known["method"]).method.net
        dense, pruned = time_in_turn(net, plan, self.engine)
        share = pruned.median_ms / dense.median_ms
        if not aim * (1 - BELOW) <= share <= aim * (1 + ABOVE):
            return None
        times = {"measured_ms": pruned.median_ms, "spread_ms": pruned.spread_ms}
        return {**known, **times, "dense_ms": dense.median_ms, "tries": [share]}

    def keep_plan(self, found: Row) -> None:
        """Write what was picked, in the place of what is of this device or loaded."""
        same = (found["method"], found["latency_share"])
        others = [
            p for p in read_plans(self.options.results, self.name)
            if (p["method"], p["latency_share"]) != same
            or (p["device"] != self.device and not p["loaded"])
        ]  # fmt: skip
        write_plans(self.options.results, self.name, [*others, found])
        rows, digest = read_rows(self.options.results), digest_json(found["plan"])[:16]
        for row in rows:
            own = (row["network"], row["method"], row["budget"]) == (self.name, *same)
            if own and row["plan"] == digest and row["loaded"]:
                row.update({key: found[key] for key in TIMES})
        record.write_json(self.options.results / "tasks.json", {"rows": rows})

    def judge(self, method: str, budget: int) -> None:
        """Cut, repair and tune what a method picked, and add its row."""
        found = self.find_plan(method, budget)
        if found is None:
            return
        row = self.describe_row(found)
        rows = read_rows(self.options.results)
        if any(all(own[key] == value for key, value in row.items()) for own in rows):
            return
        begun = time.perf_counter()
        key = digest_json([method, found["plan"], self.test])[:16]
        scratch = self.folder / f"{key}-{self.options.seed}"
        small, figures = self.repair(found, scratch)
        tuned = self.tune(small, scratch / digest_json([self.epochs, self.train])[:8])
        row |= {
            **{key: found[key] for key in TIMES}, "metric": self.describe_metric(),
            "dense": self.evaluate_dense(), **figures, "tuned": tuned,
            "minutes": round((time.perf_counter() - begun) / 60, 2), "date": str(date.today()),
            "machine": record.describe_machine(PACKAGES), "trained": self.find_training(),
        }  # fmt: skip
        rows = [r for r in rows if any(r[key] != row[key] for key in IDENTITY)]
        record.write_json(self.options.results / "tasks.json", {"rows": [*rows, row]})
        kind = MetricKind(**row["metric"])
        steps = ", ".join(
            f"{k} {kind.format(row[k])}" for k in ("dense", "cut", "repaired", "tuned")
        )
        print(f"{self.name}, {method}, {budget}%: {kind.name}: {steps}", flush=True)

    def describe_row(self, found: Row) -> Row:
        """Return what tells a row from others, and one of another schedule or structure."""
        return {
            "network": self.name, "task": self.case.name, "method": found["method"],
            "budget": found["latency_share"], "seed": self.options.seed, "device": found["device"],
            "plan": digest_json(found["plan"])[:16], "fit_samples": self.case.fit,
            "test_samples": self.test, "epochs": self.epochs, "train_samples": self.train,
            "recipe": dict(self.case.recipe),
        }  # fmt: skip

    def describe_metric(self) -> Row:
        """Return what the metric's value means."""
        kind = self.task.judge().kind
        return {
            "name": kind.name, "unit": kind.unit, "higher_is_better": kind.higher_is_better
        }  # fmt: skip

    def find_training(self) -> Row | None:
        """Return how the dense network was trained here; None where it came trained."""
        known = record.read_json(self.options.results / "trained.json", {}).get(self.name)
        if known is None:
            return None
        kept = ("scenes", "size", "epochs_done", "metric", "value", "recipe")
        return {key: known[key] for key in kept}

    def repair(self, found: Row, folder: Path) -> tuple[nn.Module, dict[str, float]]:
        """Cut and repair a structure, or read what was; with the metric of both steps."""
        note = folder / "row.json"
        if note.is_file():
            return load(folder), record.read_json(note, {})
        net = self.make_matcher(found["method"]).method.net
        plan = Plan.from_json(json.dumps(found["plan"]))
        small = pruner.apply(net, plan)
        figures = {"cut": self.evaluate(small)}
        pruner.repair(small, net, plan, self.setting.batches, task=self.task)
        figures["repaired"] = self.evaluate(small)
        save(small, None, folder)
        record.write_result(note, json.dumps(figures))  # last: where it is, the network is
        return small, figures

    def tune(self, small: nn.Module, folder: Path) -> float:
        """Tune a repaired network, and return its metric; a killed run goes on."""
        recipe = Recipe(
            batch=self.case.batch, recalibrate=0, evaluate_every=0, **self.case.recipe
        )  # fmt: skip
        data = FewerImages(self.data, self.train)
        finetune(
            small, self.space.net.module, data, self.epochs, task=self.task, recipe=recipe,
            out=folder, seed=self.options.seed,
        )  # fmt: skip
        return self.evaluate(small)

    def evaluate_dense(self) -> float:
        """Return the metric of the uncut network, kept."""
        note = self.folder / f"dense-{self.test}.json"
        if not note.is_file():
            record.write_result(note, json.dumps(self.evaluate(self.space.net.module)))
        return float(record.read_json(note, 0.0))

    def evaluate(self, module: nn.Module) -> float:
        """Return the metric on test samples."""
        batches = self.data.test(self.case.batch, limit=self.test)
        return evaluate(module, batches, self.task, dense=self.space.net.module).value


def read_rows(results: Path) -> list[Row]:
    """Read all rows, of whatever devices."""
    rows: list[Row] = record.read_json(results / "tasks.json", {"rows": []})["rows"]
    return rows


def report(rows: list[Row], results: Path) -> str:
    """Write a table of every network and device, the best first, and where ours is not."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        row = {**row, "earlier": is_earlier(row, results)}
        alike = ("network", "device", "seed", "epochs", "train_samples", "recipe")
        groups.setdefault(tuple(str(row[key]) for key in alike), []).append(row)
    tables, behind, count = [], list[str](), 0
    for own in groups.values():
        lines = []
        for budget in sorted({row["budget"] for row in own}, reverse=True):
            ranked = rank_rows([row for row in own if row["budget"] == budget])
            lines += [describe_line(row) for row in ranked]
            if len(ranked) > 1 and any(row["method"].startswith("msprune") for row in ranked):
                count += 1
                if not ranked[0]["method"].startswith("msprune"):
                    behind.append(f"{own[0]['network']} at {budget}%: {ranked[0]['method']}")
        tables.append(
            (own[0], MetricKind(**own[0]["metric"]), any(r["loaded"] for r in own), lines)
        )
    earlier = any(row["earlier"] for own in groups.values() for row in own)
    return record.render(
        "tasks.md.j2", tables=tables, behind=behind, count=count, earlier=earlier, head=HEAD
    )


def is_earlier(row: Row, results: Path) -> bool:
    """Return whether its structure is no longer the one that its method has picked."""
    same, plans = (row["method"], row["budget"]), read_plans(results, row["network"])
    found = [p for p in plans if (p["method"], p["latency_share"]) == same]
    return row["plan"] not in {digest_json(p["plan"])[:16] for p in found}


def rank_rows(rows: list[Row]) -> list[Row]:
    """Sort rows of one budget by the tuned metric, the best first."""
    sign = -1 if rows[0]["metric"]["higher_is_better"] else 1
    return sorted(rows, key=lambda row: sign * float(row["tuned"]))


def describe_line(row: Row) -> list[str]:
    """Return the cells of a row's line."""
    kind = MetricKind(**row["metric"])
    return [
        f"{row['budget']}%",
        row["method"] + " (earlier choice)" * row["earlier"],
        f"{row['measured_ms']:.4g} ± {row['spread_ms']:.1g}" + " (loaded)" * row["loaded"],
        f"{row['measured_ms'] / row['dense_ms']:.1%}",
        *(kind.format(row[step]) for step in ("cut", "repaired", "tuned")),
        f"{row['minutes']:.1f}",
    ]


if __name__ == "__main__":
    main()
