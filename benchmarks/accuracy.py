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

import argparse
import copy
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

import latency_tables
import pruner
import solver
from latency_tables import Engine, LatencyTable
from pruner import Plan, PrunerError
from pruner.models import load_model
from pruner.run import FewerImages
from pruner.surgery import load, save
from pruner.tasks import extract_scores
from pruner.tuning import Recipe, evaluate, finetune, recalibrate
from pruner.utils import digest_json

from . import record
from .matching import Matcher, read_plans, write_plans
from .peers import METHODS, Method, Setting
from .structures import open_dataset

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


@dataclass(frozen=True)
class Case:
    """A trained network and its images.

    fit_images are what scores, repair and batch-norm statistics may look at; tuned says whether
    anything is.
    """

    dataset: str
    model: str
    weights: str
    side: int = 32
    shares: tuple[int, ...] = SHARES
    fit_images: int = 1024
    batch: int = 64
    tuned: bool = True


Repaired = tuple[nn.Module, dict[str, float]]
"""A cut network before any tuning, and what a row says of it."""
PHOTOGRAPHS: dict[str, Any] = {
    "side": 224, "shares": (80, 65, *SHARES), "fit_images": 500, "batch": 25, "tuned": False,
}  # fmt: skip
CASES = {
    "resnet20": Case("cifar10", "pruner.demo.resnet:resnet20", "resnet20_cifar10.safetensors"),
    "resnet56": Case("cifar10", "pruner.demo.resnet:resnet56", "resnet56_cifar10.safetensors"),
    "mobilenet_v2": Case(
        "imagenet-1000", "torchvision:mobilenet_v2", "mobilenet_v2-b0353104.pth", **PHOTOGRAPHS
    ),
    "efficientnet_lite0": Case(
        "imagenet-1000", "timm:tf_efficientnet_lite0", "tf_efficientnet_lite0.safetensors",
        **PHOTOGRAPHS,
    ),
}  # fmt: skip


def main() -> None:
    """Run what is missing, print the table, write it down."""
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
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    engine = latency_tables.engine(options.engine, threads=options.threads)
    for name in options.only:
        bench = Bench(name, engine, options)
        for stage in (options.stage,) if options.stage else STAGES:
            for method in METHODS:
                if any(text in method for text in options.methods):
                    getattr(bench, stage)(method)
    text = report(read_rows(options.results))
    record.write_result(options.results / "accuracy.md", text)
    print(text, end="")


class CachingClassifier(nn.Module):
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
        """Return the logits of a batch."""
        if inputs.is_cuda:
            return extract_scores(self.module(inputs))
        key = hashlib.blake2b(inputs.cpu().contiguous().numpy().data, digest_size=16).digest()
        if key not in self.known:
            self.known[key] = extract_scores(self.module(inputs))
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
        self.data = open_dataset(options.data / self.case.dataset, side, dense)
        limit, tuned = self.case.fit_images, self.case.tuned
        fits = list(self.data.train(self.case.batch, augment=False, seed=0, limit=limit))
        self.setting = Setting(dense.module, self.net, self.measure, fits, self.folder, tuned)
        self.teacher = CachingClassifier(self.net.module)
        self.methods: dict[str, Method] = {}
        self.matchers: dict[str, Matcher] = {}

    def measure(self) -> LatencyTable:
        """Measure the table, or read it where it is there."""
        return latency_tables.measure(
            self.net,
            self.engine,
            path=self.folder,
            progress=lambda p: print(f"  {self.name} {p.done}/{p.total} {p.note}", flush=True),
        )

    def make_method(self, name: str) -> Method:
        """Make it once a run, where something is left to do; it scores when it is asked."""
        if name not in self.methods:
            print(f"  {self.name}: {name}", flush=True)
            self.methods[name] = METHODS[name](self.setting)
        return self.methods[name]

    def list_missing(self, name: str) -> Iterator[int]:
        """List the shares that the method has no plan for yet, of this device."""
        device = str(self.setting.table.device)
        for share in self.options.shares or self.case.shares:
            known = read_plans(self.options.results, self.name)
            if not any(own["device"] == device for own in _select(known, name, share)):
                yield share

    def score(self, name: str) -> None:
        """Let a method find out, and keep, what it needs for every share before it can choose."""
        for share in self.list_missing(name):
            self.make_method(name).find_candidates(share / 100)

    def choose(self, name: str) -> None:
        """Write the plan of every share, with what it measures here, into the results."""
        for share in self.list_missing(name):
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
        """Find the plan that measures closest to a share of the dense latency."""
        if name not in self.matchers:
            self.matchers[name] = Matcher(self.make_method(name), self.setting, self.engine)
        return self.matchers[name].match(share)

    def tune(self, name: str) -> None:
        """Cut, repair and tune every plan with every seed, each a row."""
        plans = read_plans(self.options.results, self.name)
        for share in self.options.shares or self.case.shares:
            for found in _select(plans, name, share):
                self.tune_plan(found)

    def tune_plan(self, found: dict[str, Any]) -> None:
        """Cut, repair and tune one plan with every seed."""
        # Another schedule of the same plan is another run, and not this one's rest.
        how = (found["plan"], self.epochs, self.options.train, self.options.amp)
        scratch, repaired = self.folder / _make_slug(found, how), None
        for seed in self.options.seeds if self.case.tuned else (0,):
            row = self.make_row(found, seed)
            if _contains(read_rows(self.options.results), row):
                continue
            repaired = repaired or self.repair(found)
            row |= self.finetune(repaired, seed, scratch.with_name(f"{scratch.name}.{seed}"))
            # Read now, not before: another process may have added rows of its methods.
            rows = read_rows(self.options.results)
            rows = pd.concat([rows, pd.DataFrame([row])], ignore_index=True)
            self.options.results.mkdir(parents=True, exist_ok=True)
            rows[list(COLUMNS)].to_csv(self.options.results / "accuracy.csv", index=False)
            steps = ("accuracy_before", "accuracy_repaired", "accuracy")
            print(
                f"{self.name}, {row['method']}, {row['latency_share']}%, seed {seed}: "
                "cut, repaired, tuned: " + ", ".join(f"{row[step]:.1%}" for step in steps),
                flush=True,
            )

    def make_row(self, found: dict[str, Any], seed: int) -> dict[str, Any]:
        """Return what is known of a row before its network is tuned."""
        own = ("method", "latency_share", "measured_ms", "spread_ms", "dense_ms", "device")
        return {
            "dataset": self.case.dataset,
            "model": self.name,
            **{key: found[key] for key in own},
            "epochs": self.epochs,
            "train_images": self.options.train if self.epochs else 0,
            "amp": self.options.amp if self.epochs else "no",
            "seed": seed,
            "date": str(date.today()),
            "torch": torch.__version__,
        }

    def repair(self, found: dict[str, Any]) -> Repaired:
        """Cut and repair a plan, or read what all its seeds and schedules begin with."""
        folder = self.folder / f"repaired-{_make_slug(found, found['plan'])}"
        note = folder / "row.json"
        if note.is_file():
            return load(folder), record.read_json(note, {})
        start = time.perf_counter()
        method = self.make_method(found["method"])
        plan = Plan.from_json(json.dumps(found["plan"]))
        small = pruner.apply(method.net, plan)
        row = {"dense_accuracy": self.evaluate_dense(), "accuracy_before": self.evaluate(small)}
        if method.repairs:
            pruner.repair(small, method.net, plan, self.setting.batches)
        else:
            recalibrate(small, self.setting.batches)
        row["accuracy_repaired"] = row["accuracy"] = self.evaluate(small)
        row["minutes"] = (time.perf_counter() - start) / 60
        save(small, None, folder)
        record.write_result(note, json.dumps(row))  # last: where it is, the network is
        return small, row

    def finetune(self, repaired: Repaired, seed: int, folder: Path) -> dict[str, float]:
        """Tune a copy with a seed; return the accuracies and minutes."""
        module, row = repaired
        if not self.epochs:
            return row
        start = time.perf_counter()
        small = copy.deepcopy(module)
        recipe = Recipe(recalibrate=0, evaluate_every=0, amp=self.options.amp)
        data = FewerImages(self.data, self.options.train)
        finetune(small, self.teacher, data, self.epochs, recipe=recipe, out=folder, seed=seed)
        accuracy = self.evaluate(small)
        minutes = row["minutes"] + (time.perf_counter() - start) / 60
        return {**row, "accuracy": accuracy, "minutes": minutes}

    def evaluate_dense(self) -> float:
        """Return the accuracy of the uncut network, kept."""
        note = self.folder / "dense.json"
        if not note.is_file():
            record.write_result(note, json.dumps(self.evaluate(self.net.module)))
        return float(record.read_json(note, 0.0))

    def evaluate(self, module: nn.Module) -> float:
        """Return the accuracy on all test images."""
        return evaluate(module, self.data.test(250)).accuracy


def _make_slug(found: dict[str, Any], content: Any) -> str:
    name = found["method"].replace(", ", "-").replace(" ", "_")
    return f"{name}-{found['latency_share']}-{digest_json(content)[:8]}"


def _select(plans: list[dict[str, Any]], method: str, share: int) -> list[dict[str, Any]]:
    return [p for p in plans if (p["method"], p["latency_share"]) == (method, share)]


def _contains(rows: pd.DataFrame, row: dict[str, Any]) -> bool:
    return any(all(str(own[k]) == str(row[k]) for k in KEY) for own in rows.to_dict("records"))


def read_rows(results: Path) -> pd.DataFrame:
    """Read all rows, of whatever devices."""
    file = results / "accuracy.csv"
    return pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=list(COLUMNS))


def report(rows: pd.DataFrame) -> str:
    """Write one table a network, schedule and device: mean and range over the seeds.

    By latency, the best first.
    """
    tables = []
    groups = ["dataset", "model", "epochs", "train_images", "amp", "device"]
    for _, group in rows.groupby(groups, sort=False):
        parts: list[Any] = list(group.groupby(["latency_share", "method"]))
        parts.sort(key=lambda part: (-part[0][0], -part[1]["accuracy"].mean()))
        tables.append((group.iloc[0], parts))
    return record.render("accuracy.md.j2", tables=tables)


if __name__ == "__main__":
    main()
