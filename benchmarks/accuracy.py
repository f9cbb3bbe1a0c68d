"""Accuracy at a measured latency: this package and its peers, side by side in one run.

    python examples/prepare.py
    python -m benchmarks.accuracy [--only resnet20] [--methods msprune halp] [--shares 50 25]
                                  [--epochs 30] [--train 50000] [--amp no|bf16] [--seeds 0 1 2]
                                  [--stage score|choose|tune]

Every method picks a structure for every share of the dense latency: a bisection by the table (of
methods whose latency need not grow with their knob: the best of fifty), then up to six corrections
by what the device says, dense and pruned timed in turn. All structures are then tuned alike, with
the dense network as the teacher. `choose` is to run on an otherwise idle machine, the one that the
latencies are of; `score`, what a method finds out for a latency before it chooses, can share it
once the table is measured, and `tune` can run anywhere. Plans are kept in benchmarks/results/plans,
rows in benchmarks/results/accuracy.csv, their table in accuracy.md; the latency table, scores and
repaired networks in --work (default runs/accuracy). All stages continue where they stopped, and a
row is never done twice.

CIFAR-10's networks are tuned for --epochs on --train images. The 1,000 photographs are no training
set: there nothing is tuned (epochs 0), and the table ends with the repair.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import latency_tables
import pruner
import solver
from latency_tables import Engine, LatencyTable
from pruner import Plan, PrunerError
from pruner.data import ImageData, open_images
from pruner.graph import extract_logits
from pruner.models import load_model
from pruner.run import FewerImages
from pruner.surgery import load, save
from pruner.tuning import Recipe, evaluate, finetune, recalibrate
from pruner.utils import digest_json, write_text

from .peers import METHODS, Method, Setting

RESULTS = Path(__file__).with_name("results")
COLUMNS = (
    "dataset", "model", "method", "latency_share", "measured_ms", "spread_ms", "accuracy_before",
    "accuracy_repaired", "accuracy", "epochs", "seed", "device", "date", "dense_ms",
    "dense_accuracy", "train_images", "amp", "minutes", "torch",
)  # fmt: skip
KEY = [
    "dataset", "model", "method", "latency_share", "epochs", "train_images", "amp", "seed",
    "device",
]  # fmt: skip
STAGES = ("score", "choose", "tune")
SHARES = (70, 50, 35, 25)
ABOVE, BELOW = 0.005, 0.02
"""A structure is taken when it measures this close to the latency asked for, relative to dense."""
CORRECTIONS = 6
BISECTIONS = 9
SCANNED = 50


@dataclass(frozen=True)
class Case:
    """A trained network and its images.

    fit_images are what scores, repair and batch-norm statistics may look at, train_images what is
    tuned on (0: nothing is tuned).
    """

    dataset: str
    model: str
    weights: str
    side: int
    shares: tuple[int, ...]
    fit_images: int
    batch: int
    tuned: bool = True


CASES = {
    "resnet20": Case(
        "cifar10", "pruner.demo.resnet:resnet20", "resnet20_cifar10.safetensors", 32, SHARES,
        1024, 64,
    ),
    "resnet56": Case(
        "cifar10", "pruner.demo.resnet:resnet56", "resnet56_cifar10.safetensors", 32, SHARES,
        1024, 64,
    ),
    "mobilenet_v2": Case(
        "imagenet-1000", "torchvision:mobilenet_v2", "mobilenet_v2-b0353104.pth", 224,
        (80, 65, *SHARES), 500, 25, tuned=False,
    ),
    "efficientnet_lite0": Case(
        "imagenet-1000", "timm:tf_efficientnet_lite0", "tf_efficientnet_lite0.safetensors", 224,
        (80, 65, *SHARES), 500, 25, tuned=False,
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--methods", nargs="*", default=[""], help="those that hold one of these")
    parser.add_argument("--shares", nargs="*", type=int, help="percent of dense (default: all)")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--train", type=int, default=50_000, help="images to tune on")
    parser.add_argument("--amp", choices=("no", "bf16"), default="no", help="of tuning")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="of tuning")
    parser.add_argument("--stage", choices=STAGES, help="default: all")
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--work", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    engine = latency_tables.engine(options.engine, threads=options.threads)
    for name in options.only:
        bench = Bench(name, engine, options)
        for stage in (options.stage,) if options.stage else STAGES:
            for method in METHODS:
                if any(text in method for text in options.methods):
                    getattr(bench, stage)(method)
    text = markdown(read_rows(options.results))
    write_text(options.results / "accuracy.md", text + "\n")
    print(text)


@dataclass(frozen=True)
class Repaired:
    """A cut network before any tuning, and what a row says of it."""

    module: nn.Module
    row: dict[str, float]


class Remembered(nn.Module):
    """A classifier that is asked once for every batch, however often it is shown.

    With one seed all methods are tuned on the same batches, and most of a slim network's tuning
    would be its teacher's time. Who comes first pays: a row's minutes depend on it. A GPU answers
    sooner than a batch is recognized.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.known: dict[bytes, torch.Tensor] = {}

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if inputs.is_cuda:
            return extract_logits(self.module(inputs))
        key = hashlib.blake2b(inputs.cpu().contiguous().numpy().data, digest_size=16).digest()
        if key not in self.known:
            self.known[key] = extract_logits(self.module(inputs))
        return self.known[key]


class Bench:
    """One network: its table, its methods' plans, its rows."""

    def __init__(self, name: str, engine: Engine, options: argparse.Namespace) -> None:
        self.name, self.case, self.engine, self.options = name, CASES[name], engine, options
        self.folder = options.work / f"{name}-{engine.name}-{options.threads}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.epochs = options.epochs if self.case.tuned else 0
        dense = load_model(self.case.model, str(options.data / self.case.weights))
        side = self.case.side
        self.net = pruner.trace(dense.module, (torch.zeros(1, 3, side, side),), name=name)
        how = dense.preset
        self.data: ImageData = open_images(
            options.data / self.case.dataset, side, mean=how.mean, std=how.std, crop=how.crop,
            interpolation=how.interpolation,
        )  # fmt: skip
        fits = list(
            self.data.train(self.case.batch, augment=False, seed=0, limit=self.case.fit_images)
        )
        self.setting = Setting(
            dense.module, self.net, self.measure, fits, self.folder, self.case.tuned
        )
        self.teacher = Remembered(self.net.module)
        self.methods: dict[str, Method] = {}
        self.scans: dict[str, list[tuple[float, Plan]]] = {}

    def measure(self) -> LatencyTable:
        return latency_tables.measure(
            self.net,
            self.engine,
            path=self.folder,
            progress=lambda p: print(f"  {self.name} {p.done}/{p.total} {p.note}", flush=True),
        )

    def method(self, name: str) -> Method:
        """Made once a run, and only where something is left to do; it scores when it is asked."""
        if name not in self.methods:
            print(f"  {self.name}: {name}", flush=True)
            self.methods[name] = METHODS[name](self.setting)
        return self.methods[name]

    def left(self, name: str) -> Iterator[int]:
        """The shares that the method has no plan for yet, of this device."""
        device = str(self.setting.table.device)
        for share in self.options.shares or self.case.shares:
            known = read_plans(self.options.results, self.name)
            if not any(own["device"] == device for own in _of(known, name, share)):
                yield share

    def score(self, name: str) -> None:
        """What a method has to find out for every share before it can choose, kept by it."""
        for share in self.left(name):
            tried = self.method(name).tried
            if tried is not None:
                tried(share / 100)

    def choose(self, name: str) -> None:
        """The plan of every share, with what it measures here, into the results."""
        for share in self.left(name):
            try:
                found = self.match(name, share / 100)
            except (PrunerError, solver.SolverError) as error:
                print(f"{self.name}, {name}, {share}%: {' '.join(str(error).split())}", flush=True)
                continue
            device = str(self.setting.table.device)
            row = {"method": name, "latency_share": share, "device": device, **found}
            known = read_plans(self.options.results, self.name)
            write_plans(self.options.results, self.name, [*known, row])
            ratio = found["measured_ms"] / found["dense_ms"]
            print(f"{self.name}, {name}, {share}%: measures {ratio:.1%}", flush=True)

    def match(self, name: str, share: float) -> dict[str, Any]:
        """The plan that measures closest to a share of the dense latency, below it if possible.

        Of structures that were tried, the best that measures below it.
        """
        aim, tries, method = share, [], self.method(name)

        def measured(plan: Plan) -> float:
            probes = {
                "dense": method.net.probe({}),
                "pruned": method.net.probe(plan.sizes(), plan.dropped_blocks()),
            }
            timings = latency_tables.compare(self.engine, probes, 40)
            tries.append((timings["pruned"].median_ms / timings["dense"].median_ms, plan, timings))
            return float(tries[-1][0])

        for plan in method.tried(share) if method.tried is not None else ():
            if measured(plan) <= share * (1 + ABOVE):
                return self.found(tries[-1], tries)
        seen: dict[float, float] = {}  # of an aim: the share that its structure measures
        for _ in range(CORRECTIONS + 1):
            plan = self.bisect(method, aim) if method.monotone else self.scan(name, aim)
            ratio = measured(plan)
            if share * (1 - BELOW) <= ratio <= share * (1 + ABOVE):
                break
            seen[aim] = ratio
            aim = next_aim(seen, share)
        fitting = [t for t in tries if t[0] <= share * (1 + ABOVE)] or tries
        return self.found(min(fitting, key=lambda t: abs(t[0] - share)), tries)

    @staticmethod
    def found(taken: Any, tries: list[Any]) -> dict[str, Any]:
        """What a plan's line says of the one that is taken: (share, plan, timings), as all are."""
        _, plan, timings = taken
        return {
            "plan": json.loads(plan.to_json()),
            "measured_ms": timings["pruned"].median_ms,
            "spread_ms": timings["pruned"].spread_ms,
            "dense_ms": timings["dense"].median_ms,
            "tries": [t[0] for t in tries],
        }

    def bisect(self, method: Method, share: float) -> Plan:
        """By the table alone: the largest knob whose plan is predicted within the share."""
        limit = share * self.setting.table.uncut_ms(self.net)
        low, high = 0.02, 1.0
        best = None
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            try:
                plan = method.plan(middle)
            except solver.SolverError:  # nothing within so little: more is needed
                low = middle
                continue
            cost = pruner.predict(
                method.net, self.setting.table, plan.sizes(), plan.dropped_blocks()
            )
            if cost <= limit:
                low, best = middle, plan
            else:
                high = middle
        if best is None:
            raise PrunerError(f"nothing within {share:.1%} of the dense latency")
        return best

    def scan(self, name: str, share: float) -> Plan:
        """By the table alone: of many knobs' plans the slowest that is within the share."""
        method, table = self.method(name), self.setting.table
        if name not in self.scans:
            self.scans[name] = []
            for knob in np.linspace(0.02, 1.0, SCANNED):
                plan = method.plan(float(knob))
                cost = pruner.predict(method.net, table, plan.sizes(), plan.dropped_blocks())
                self.scans[name].append((cost, plan))
        limit = share * table.uncut_ms(self.net)
        fitting = [found for found in self.scans[name] if found[0] <= limit]
        if not fitting:
            raise PrunerError(f"nothing within {share:.1%} of the dense latency")
        return max(fitting, key=lambda found: found[0])[1]

    def tune(self, name: str) -> None:
        """Cut, repair and tune every plan with every seed, each a row."""
        plans = read_plans(self.options.results, self.name)
        for share in self.options.shares or self.case.shares:
            for found in _of(plans, name, share):
                self.tune_plan(found)

    def tune_plan(self, found: dict[str, Any]) -> None:
        name, share = found["method"], found["latency_share"]
        # Another schedule of the same plan is another run, and not this one's rest.
        how = (found["plan"], self.epochs, self.options.train, self.options.amp)
        scratch = self.folder / f"{_slug(name, share)}-{digest_json(how)[:8]}"
        repaired: Repaired | None = None
        for seed in self.options.seeds if self.case.tuned else (0,):
            row = self.row(found, seed)
            if _holds(read_rows(self.options.results), row):
                continue
            repaired = repaired or self.repaired(found)
            row |= self.tuned(repaired, seed, scratch.with_name(f"{scratch.name}.{seed}"))
            # Read now, not before: another process may have added rows of its methods.
            rows = read_rows(self.options.results)
            rows = pd.concat([rows, pd.DataFrame([row])], ignore_index=True)
            self.options.results.mkdir(parents=True, exist_ok=True)
            rows[list(COLUMNS)].to_csv(self.options.results / "accuracy.csv", index=False)
            steps = ("accuracy_before", "accuracy_repaired", "accuracy")
            print(
                f"{self.name}, {name}, {share}%, seed {seed}: cut, repaired, tuned: "
                + ", ".join(f"{row[step]:.1%}" for step in steps),
                flush=True,
            )

    def row(self, found: dict[str, Any], seed: int) -> dict[str, Any]:
        taken = (
            "method", "latency_share", "measured_ms", "spread_ms", "dense_ms", "device",
        )  # fmt: skip
        return {
            "dataset": self.case.dataset,
            "model": self.name,
            **{key: found[key] for key in taken},
            "epochs": self.epochs,
            "train_images": self.options.train if self.epochs else 0,
            "amp": self.options.amp if self.epochs else "no",
            "seed": seed,
            "date": str(date.today()),
            "torch": torch.__version__,
        }

    def repaired(self, found: dict[str, Any]) -> Repaired:
        """What all seeds and schedules of a plan begin with, kept."""
        name, share = found["method"], found["latency_share"]
        folder = self.folder / f"repaired-{_slug(name, share)}-{digest_json(found['plan'])[:8]}"
        note = folder / "row.json"
        if note.is_file():
            return Repaired(load(folder), json.loads(note.read_text(encoding="utf-8")))
        begun = time.perf_counter()
        method = self.method(name)
        plan = Plan.from_json(json.dumps(found["plan"]))
        small = pruner.apply(method.net, plan)
        row = {"dense_accuracy": self.dense_accuracy(), "accuracy_before": self.accuracy(small)}
        if method.repairs:
            pruner.repair(small, method.net, plan, self.setting.batches)
        else:
            recalibrate(small, self.setting.batches)
        row["accuracy_repaired"] = row["accuracy"] = self.accuracy(small)
        row["minutes"] = (time.perf_counter() - begun) / 60
        save(small, None, folder)
        write_text(note, json.dumps(row))  # last: where it is, the network is
        return Repaired(small, row)

    def tuned(self, repaired: Repaired, seed: int, folder: Path) -> dict[str, float]:
        if not self.epochs:
            return repaired.row
        begun = time.perf_counter()
        small = copy.deepcopy(repaired.module)
        recipe = Recipe(recalibrate=0, evaluate_every=0, amp=self.options.amp)
        data = FewerImages(self.data, self.options.train)
        finetune(small, self.teacher, data, self.epochs, recipe=recipe, out=folder, seed=seed)
        accuracy = self.accuracy(small)
        minutes = repaired.row["minutes"] + (time.perf_counter() - begun) / 60
        return {**repaired.row, "accuracy": accuracy, "minutes": minutes}

    def dense_accuracy(self) -> float:
        note = self.folder / "dense.json"
        if not note.is_file():
            write_text(note, json.dumps(self.accuracy(self.net.module)))
        return float(json.loads(note.read_text(encoding="utf-8")))

    def accuracy(self, module: nn.Module) -> float:
        return evaluate(module, self.data.test(250)).accuracy


def next_aim(seen: Mapping[float, float], share: float) -> float:
    """What to ask of the table, after what structures measure that were asked for before.

    Between the nearest from below and from above, in proportion; while all lie on one side, the
    last one is scaled by its error.
    """
    low = max((aim for aim, ratio in seen.items() if ratio <= share), default=0.0)
    high = min((aim for aim, ratio in seen.items() if ratio > share and aim > low), default=0.0)
    if not (low and high):
        aim, ratio = list(seen.items())[-1]
        return aim * share / ratio
    part = (share - seen[low]) / (seen[high] - seen[low])
    return low + (high - low) * min(max(part, 0.25), 0.75)


def _slug(method: str, share: int) -> str:
    return f"{method.replace(', ', '-').replace(' ', '_')}-{share}"


def _of(plans: list[dict[str, Any]], method: str, share: int) -> list[dict[str, Any]]:
    return [p for p in plans if (p["method"], p["latency_share"]) == (method, share)]


def read_plans(results: Path, model: str) -> list[dict[str, Any]]:
    """What was chosen for a network, on whatever devices: one JSON object a line."""
    file = results / "plans" / f"{model}.jsonl"
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_plans(results: Path, model: str, plans: list[dict[str, Any]]) -> None:
    """Replace them, whole or not at all."""
    file = results / "plans" / f"{model}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "".join(f"{json.dumps(plan)}\n" for plan in plans))


def _holds(rows: pd.DataFrame, row: dict[str, Any]) -> bool:
    return any(all(str(own[k]) == str(row[k]) for k in KEY) for own in rows.to_dict("records"))


def read_rows(results: Path) -> pd.DataFrame:
    file = results / "accuracy.csv"
    return pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=list(COLUMNS))


def markdown(rows: pd.DataFrame) -> str:
    """One table a network, schedule and device: mean and range over the seeds."""
    text = []
    groups = ["dataset", "model", "epochs", "train_images", "amp", "device"]
    for key, group in rows.groupby(groups, sort=False):
        dataset, model, epochs, images, amp, device = key  # type: ignore[misc]
        how = f"{epochs} epochs of {images} images" if epochs else "not tuned"
        how += f" in {amp}" if amp != "no" else ""
        text.append(
            f"**{model}, {dataset}**, dense {group['dense_accuracy'].iloc[0]:.1%}, {how}, {device}"
            "\n\n| latency | method | measured ms | of dense | cut | repaired | tuned | seeds | "
            "range | minutes |\n|---|---|---|---|---|---|---|---|---|---|"
        )
        for (share, method), own in _ordered(group):
            end = own["accuracy"]
            cells = [
                f"{share}%",
                method,
                f"{own['measured_ms'].iloc[0]:.4g} ± {own['spread_ms'].iloc[0]:.1g}",
                f"{(own['measured_ms'] / own['dense_ms']).iloc[0]:.1%}",
                f"{own['accuracy_before'].mean():.1%}",
                f"{own['accuracy_repaired'].mean():.1%}",
                f"{end.mean():.1%}" if epochs else "-",
                str(len(own)),
                f"{100 * (end.max() - end.min()):.1f}",
                f"{own['minutes'].mean():.1f}",
            ]
            text[-1] += f"\n| {' | '.join(cells)} |"
    return "\n\n".join(text)


def _ordered(group: pd.DataFrame) -> list[tuple[tuple[Any, Any], pd.DataFrame]]:
    """By latency, the best first."""
    parts: list[Any] = list(group.groupby(["latency_share", "method"]))
    return sorted(parts, key=lambda part: (-part[0][0], -part[1]["accuracy"].mean()))


if __name__ == "__main__":
    main()
