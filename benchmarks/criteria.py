"""Does the objective foretell the loss? Rank correlations of every criterion on random structures.

``python -m benchmarks.criteria`` runs what is missing and prints the table.

ResNet-20 on CIFAR-10: random structures of equal cost (multiply-adds within 2% of a share of the
dense network's; a block in ten dropped) are cut by each criterion's own order of channels. The
solver's objective for a structure, as `pruner.formulate` writes it, is then set against the loss of
the network as it would be used: repaired on calibration images (``repaired``), and with nothing but
its batch norms recalibrated (``cut``). Spearman's rank correlation, with the sign such that 1 is
perfect. With ``--tune`` also after a short fine-tune, of so many structures as ``of`` says. How far
two halves of the test images agree on the order of the structures is said beside it: no objective
can agree much better with either.
Every structure that is finished is kept in ``results/criteria.json`` and not run again: an
interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pruner import Network, Plan, apply, repair, score, trace
from pruner.data import ImageData, open_images
from pruner.importance import CRITERIA
from pruner.models import load_model
from pruner.problem import objective_value
from pruner.structure import count_macs
from pruner.tuning import Recipe, evaluate, finetune, recalibrate
from pruner.utils import digest_json, write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results")
Batch = tuple[Tensor, Tensor]
PLACES = 64  # of an image that repair looks at: many images tell more than many places


def structures(net: Network, count: int, share: float, seed: int) -> list[Plan]:
    """Random sizes and dropped blocks whose multiply-adds are within 2% of the share."""
    goal = share * count_macs(net)
    found: list[Plan] = []
    dice = seed * 100_000
    while len(found) < count:
        plan = Plan.random(net, macs=share, seed=dice, drop_blocks=0.1)
        dice += 1
        if count_macs(net, plan.sizes(), plan.dropped_blocks()) >= 0.98 * goal:
            found.append(plan)
    return found


def losses(
    net: Network, plan: Plan, images: list[Batch], test: list[Batch], data: ImageData | None
) -> dict[str, float]:
    """Loss and accuracy on the test images: recalibrated, repaired, and tuned where data is."""
    found: dict[str, float] = {}
    small = apply(net, plan)
    recalibrate(small, images)
    _note(found, "cut", small, test)
    small = apply(net, plan)
    repair(small, net, plan, images, spatial_samples=PLACES)
    _note(found, "repaired", small, test)
    if data is not None:
        recipe = dataclasses.replace(Recipe(), lr=0.02)
        finetune(small, net.module, _Few(data), 1, recipe=recipe)
        _note(found, "tuned", small, test)
    return found


def known(runs: dict[str, dict[str, Any]], key: str, tuned: bool) -> dict[str, float] | None:
    """The losses of this very plan, where a criterion with the same order has cut it before."""
    for run in runs.values():
        for row in run["structures"]:
            if row.get("plan") == key and ("tuned" in row or not tuned):
                return {k: v for k, v in row.items() if k not in ("objective", "plan")}
    return None


def _note(found: dict[str, float], name: str, module: nn.Module, test: list[Batch]) -> None:
    halves = [evaluate(module, part) for part in (test[::2], test[1::2])]
    found[name] = float(np.mean([half.loss for half in halves]))
    found[f"{name}_even"], found[f"{name}_odd"] = (half.loss for half in halves)
    found[f"{name}_accuracy"] = float(np.mean([half.accuracy for half in halves]))


@dataclasses.dataclass(frozen=True)
class _Few:
    """Training data of 5,000 images, for a fine-tune of a minute."""

    data: ImageData

    def train(self, batch: int = 128, *, limit: int | None = None, **options: Any) -> Any:
        return self.data.train(batch, limit=min(limit or 5000, 5000), **options)

    def test(self, batch: int = 256, **options: Any) -> Any:
        return self.data.test(batch, limit=256, **options)

    def fingerprint(self) -> str:
        return f"5000 of {self.data.fingerprint()}"


def table(runs: dict[str, dict[str, Any]]) -> str:
    """One row a criterion: rank correlations, mean accuracies, seconds.

    Few structures tell less than many, and other ones: criteria compare by those that all have.
    """
    runs = {name: run for name, run in runs.items() if len(run["structures"]) >= 3}
    common = min((len(run["structures"]) for run in runs.values()), default=0)
    head = ["criterion", "structures", "cut", "repaired", f"repaired, first {common}", "halves",
            "tuned", "of", "accuracy, cut", "accuracy, repaired", "scoring, s"]  # fmt: skip
    lines = []
    for name, run in sorted(runs.items(), key=lambda item: -(_rank(item[1], "repaired") or 0)):
        rows = run["structures"]
        first = {"structures": rows[:common]}
        halves = spearmanr([r["repaired_even"] for r in rows], [r["repaired_odd"] for r in rows])
        cut, repaired, tuned = (_rank(run, key) for key in ("cut", "repaired", "tuned"))
        ranks = (cut, repaired, _rank(first, "repaired"), float(halves[0]), tuned)
        shown = ["-" if r is None else f"{r:.3f}" for r in ranks]
        shown.append(str(sum("tuned" in r for r in rows)))
        means = [np.mean([r[f"{key}_accuracy"] for r in rows]) for key in ("cut", "repaired")]
        lines.append(
            [name, str(len(rows)), *shown, *(f"{m:.1%}" for m in means), f"{run['seconds']:.0f}"]
        )
    widths = [max(len(x[i]) for x in [head, *lines]) for i in range(len(head))]
    text = [head, ["-" * w for w in widths], *lines]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(x, widths)) + " |" for x in text)


def _rank(run: dict[str, Any], key: str) -> float | None:
    rows = [r for r in run["structures"] if key in r]
    if len(rows) < 3:
        return None
    return float(-spearmanr([r["objective"] for r in rows], [r[key] for r in rows])[0])


def main() -> int:
    """Run what is missing, print the table, write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.criteria", description=__doc__)
    parser.add_argument("--data", default=ROOT / "data" / "cifar10", type=Path)
    parser.add_argument(
        "--weights", default=ROOT / "data" / "resnet20_cifar10.safetensors", type=Path
    )
    parser.add_argument("--structures", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.6, help="of the dense multiply-adds")
    parser.add_argument("--images", type=int, default=512, help="for scores and repair")
    parser.add_argument("--test", type=int, default=5000, help="images for the true loss")
    parser.add_argument("--only", nargs="*", default=sorted(CRITERIA), help="these criteria")
    parser.add_argument("--tune", action="store_true", help="also tune 5,000 images, once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    given = parser.parse_args()
    dense = load_model("pruner.demo.resnet:resnet20", str(given.weights), given.seed, {})
    net = trace(dense.module, (torch.zeros(1, 3, 32, 32),), name="resnet20")
    preset = dense.preset
    data = open_images(
        given.data, 32, mean=preset.mean, std=preset.std, crop=preset.crop,
        interpolation=preset.interpolation,
    )  # fmt: skip
    images = list(data.train(32, augment=False, seed=given.seed, limit=given.images))
    test = list(data.test(250, limit=given.test))
    settings = {k: getattr(given, k) for k in ("share", "images", "test", "seed")}
    settings["places"] = PLACES
    path = given.results / "criteria.json"
    given.results.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = {"settings": settings, "date": str(date.today()), "criteria": {}}
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["settings"] == settings:
            kept = before
        else:
            print("earlier results have other settings: starting afresh")
    plans = structures(net, given.structures, given.share, given.seed)
    for name in given.only:
        run = kept["criteria"].setdefault(name, {"structures": [], "seconds": 0.0})
        rows = run["structures"]
        left = [
            k
            for k in range(len(plans))
            if k >= len(rows) or (given.tune and "tuned" not in rows[k])
        ]
        if not left:
            continue
        begun = time.perf_counter()
        scores = score(net, images, cross_entropy, name)
        run["seconds"] = time.perf_counter() - begun
        for k in left:
            plan = plans[k].refill(scores)
            key = digest_json(plan.to_json())[:16]
            found = known(kept["criteria"], key, given.tune) or losses(
                net, plan, images, test, data if given.tune else None
            )
            value = objective_value(net, scores, plan.sizes(), plan.dropped_blocks())
            rows[k : k + 1] = [{"objective": value, **found, "plan": key}]
            write_text(path, json.dumps(kept, indent=1) + "\n")
        print(f"{name}: rank correlation {_rank(run, 'repaired')}", flush=True)
    text = "\n".join(
        [
            "# Criteria: does the objective foretell the loss?",
            "",
            f"ResNet-20 on CIFAR-10, random structures of {given.share:.0%} of the dense "
            f"multiply-adds, loss on {given.test} test images, scores and repair from "
            f"{given.images} training images, seed {given.seed}, {kept['date']}. Spearman's rank "
            "correlation of the solver's objective with the loss: as cut (batch norms "
            "recalibrated), repaired, and after a short fine-tune. Halves: of the repaired losses "
            "on the one half of the test images with those on the other. Scoring time includes no "
            "repetition; other work shared the machine.",
            "",
            table(kept["criteria"]),
            "",
        ]
    )
    write_text(given.results / "criteria.md", text)
    print("\n" + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
