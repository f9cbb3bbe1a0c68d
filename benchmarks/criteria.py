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

import argparse
import dataclasses
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
from pruner.data import ImageData
from pruner.importance import CRITERIA, needs_target
from pruner.models import load_model
from pruner.problem import objective_value
from pruner.run import FewerImages
from pruner.structure import count_macs
from pruner.tuning import Recipe, evaluate, finetune, recalibrate
from pruner.utils import digest_json

from . import record
from .structures import open_dataset

Batch = tuple[Tensor, Tensor]
SAMPLES = 64  # places of an image that repair looks at: many images tell more than many places


def draw_plans(net: Network, count: int, share: float, seed: int) -> list[Plan]:
    """Draw sizes and dropped blocks whose multiply-adds are within 2% of the share."""
    goal = share * count_macs(net)
    found: list[Plan] = []
    dice = seed * 100_000
    while len(found) < count:
        plan = Plan.random(net, macs=share, seed=dice, drop_blocks=0.1)
        dice += 1
        if count_macs(net, plan.sizes(), plan.dropped_blocks()) >= 0.98 * goal:
            found.append(plan)
    return found


def measure_losses(
    net: Network, plan: Plan, images: list[Batch], test: list[Batch], data: ImageData | None
) -> dict[str, float]:
    """Return loss and accuracy on test images: recalibrated, repaired, and tuned where data is."""
    found: dict[str, float] = {}
    small = apply(net, plan)
    recalibrate(small, images)
    _record_losses(found, "cut", small, test)
    small = apply(net, plan)
    repair(small, net, plan, images, spatial_samples=SAMPLES)
    _record_losses(found, "repaired", small, test)
    if data is not None:
        recipe = dataclasses.replace(Recipe(), lr=0.02)
        finetune(small, net.module, _FewImages(data, 5000), 1, recipe=recipe)
        _record_losses(found, "tuned", small, test)
    return found


def find_losses(runs: dict[str, dict[str, Any]], key: str, tuned: bool) -> dict[str, float] | None:
    """Return the losses of this plan, where a criterion with the same order has cut it before."""
    for run in runs.values():
        for row in run["structures"]:
            if row.get("plan") == key and ("tuned" in row or not tuned):
                return {k: v for k, v in row.items() if k not in ("objective", "plan")}
    return None


def _record_losses(
    found: dict[str, float], name: str, module: nn.Module, test: list[Batch]
) -> None:
    halves = [evaluate(module, part) for part in (test[::2], test[1::2])]
    found[name] = float(np.mean([half.loss for half in halves]))
    found[f"{name}_even"], found[f"{name}_odd"] = (half.loss for half in halves)
    found[f"{name}_accuracy"] = float(np.mean([half.accuracy for half in halves]))


class _FewImages(FewerImages):
    """Data for a fine-tune of a minute."""

    def test(self, batch: int = 256, **options: Any) -> Any:
        """Return the first 256 test images."""
        return self.data.test(batch, limit=256, **options)


def report(kept: dict[str, Any]) -> str:
    """Write rank correlations, mean accuracies and seconds in Markdown, one row a criterion.

    Few structures tell less than many, and other ones: criteria compare by those that all have.
    """
    runs = {name: run for name, run in kept["criteria"].items() if len(run["structures"]) >= 3}
    common = min((len(run["structures"]) for run in runs.values()), default=0)
    lines = []
    for name, run in sorted(runs.items(), key=lambda item: -(_rank(item[1], "repaired") or 0)):
        rows = run["structures"]
        first = {"structures": rows[:common]}
        halves = spearmanr([r["repaired_even"] for r in rows], [r["repaired_odd"] for r in rows])
        cut, repaired, tuned = (_rank(run, key) for key in ("cut", "repaired", "tuned"))
        ranks = (cut, repaired, _rank(first, "repaired"), float(halves[0]), tuned)
        shown = [record.show_number(rank, ".3f") for rank in ranks]
        shown.append(str(sum("tuned" in r for r in rows)))
        means = [np.mean([r[f"{key}_accuracy"] for r in rows]) for key in ("cut", "repaired")]
        lines.append(
            [name, str(len(rows)), *shown, *(f"{m:.1%}" for m in means), f"{run['seconds']:.0f}"]
        )
    return record.render("criteria.md.j2", kept=kept, common=common, lines=lines)


def _rank(run: dict[str, Any], key: str) -> float | None:
    rows = [r for r in run["structures"] if key in r]
    if len(rows) < 3:
        return None
    return float(-spearmanr([r["objective"] for r in rows], [r[key] for r in rows])[0])


def main() -> None:
    """Run what is missing, print the table, write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.criteria", description=__doc__)
    parser.add_argument("--data", default=record.ROOT / "data" / "cifar10", type=Path)
    weights = record.ROOT / "data" / "resnet20_cifar10.safetensors"
    parser.add_argument("--weights", default=weights, type=Path)
    parser.add_argument("--structures", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.6, help="of the dense multiply-adds")
    parser.add_argument("--images", type=int, default=512, help="for scores and repair")
    parser.add_argument("--test", type=int, default=5000, help="images for the true loss")
    alone = sorted(name for name in CRITERIA if not needs_target(name))
    parser.add_argument("--only", nargs="*", default=alone, help="these criteria")
    parser.add_argument("--tune", action="store_true", help="also tune 5,000 images, once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=record.RESULTS, help="folder to write to")
    given = parser.parse_args()
    dense = load_model("pruner.demo.resnet:resnet20", str(given.weights), given.seed, {})
    net = trace(dense.module, (torch.zeros(1, 3, 32, 32),), name="resnet20")
    data = open_dataset(given.data, 32, dense)
    images = list(data.train(32, augment=False, seed=given.seed, limit=given.images))
    test = list(data.test(250, limit=given.test))
    settings = {k: getattr(given, k) for k in ("share", "images", "test", "seed")}
    settings["places"] = SAMPLES
    path = given.results / "criteria.json"
    kept: dict[str, Any] = {"settings": settings, "date": str(date.today()), "criteria": {}}
    kept = record.resume(path, kept, "settings", "earlier results have other settings")
    plans = draw_plans(net, given.structures, given.share, given.seed)
    for name in given.only:
        run = kept["criteria"].setdefault(name, {"structures": [], "seconds": 0.0})
        rows = run["structures"]
        wanted = "tuned" if given.tune else "cut"
        left = [k for k in range(len(plans)) if k >= len(rows) or wanted not in rows[k]]
        if not left:
            continue
        start = time.perf_counter()
        scores = score(net, images, cross_entropy, name)
        run["seconds"] = time.perf_counter() - start
        for k in left:
            plan = plans[k].refill(scores)
            key = digest_json(plan.to_json())[:16]
            found = find_losses(kept["criteria"], key, given.tune) or measure_losses(
                net, plan, images, test, data if given.tune else None
            )
            value = objective_value(net, scores, plan.sizes(), plan.dropped_blocks())
            rows[k : k + 1] = [{"objective": value, **found, "plan": key}]
            record.write_json(path, kept)
        print(f"{name}: rank correlation {_rank(run, 'repaired')}", flush=True)
    text = report(kept)
    record.write_result(given.results / "criteria.md", text)
    print("\n" + text)


if __name__ == "__main__":
    main()
