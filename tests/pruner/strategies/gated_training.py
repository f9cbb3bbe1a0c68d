"""A small network, its table by formula, and a strategy that is trained on images at random."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import solver
from pruner import Importance, Network, Plan, formulate, score
from pruner.data import wrap_datasets
from pruner.problem import predict
from pruner.search import NothingFound
from pruner.strategies import Strategy, StrategySetting
from pruner.tasks import DEFAULT, Task
from pruner.tuning import Recipe, finetune

from ..problem.test_formulate import Rule, traced

RECIPE = Recipe(batch=8, lr=0.05, weight_decay=0.1, recalibrate=0, evaluate_every=0, warmup=0.0)


def open_task() -> Task:
    """Twenty images [3, 8, 8] of three classes, so that an epoch has three batches."""
    dice = torch.Generator().manual_seed(3)
    images = torch.randn(20, 3, 8, 8, generator=dice)
    labels = torch.randint(0, 3, (20,), generator=dice)
    pairs = list(zip(images, labels.tolist()))
    return DEFAULT(wrap_datasets((pairs, pairs[:4])))


@dataclass
class Asked:
    """What was asked of the solver: latency, what it was to stay within, what to keep."""

    net: Network
    task: Task = field(default_factory=open_task)
    plans: list[tuple[float, Plan | None, Plan | None, Plan]] = field(default_factory=list)

    def score(self, net: Network) -> Importance:
        batches = [(torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1)),
                    torch.arange(8) % 3)]  # fmt: skip
        return score(net, batches, None, "taylor", task=self.task)

    def pick(
        self, net: Network, scores: Importance, target_ms: float,
        within: Plan | None = None, beyond: Plan | None = None,
    ) -> Plan:  # fmt: skip
        problem = formulate(net, Rule(), scores, target_ms, within=within, beyond=beyond)
        solution = solver.solve(problem)
        if solution.choice is None:
            raise NothingFound("nothing")
        plan = Plan.from_solution(net, solution, scores, within, beyond)
        self.plans.append((target_ms, within, beyond, plan))
        return plan

    def make_setting(self, share: float = 0.6) -> StrategySetting:
        dense_ms = float(predict(self.net, Rule()))
        return StrategySetting(
            self.net, self.score(self.net), dense_ms, share * dense_ms, self.pick, self.score
        )


def start(kind: Any) -> Asked:
    return Asked(traced(kind, 2))


def train(
    asked: Asked, strategy: Strategy, out: Path | None = None, until: int | None = None,
    recipe: Recipe = RECIPE, **more: Any,
) -> None:  # fmt: skip
    """Train as a RUN does."""
    finetune(
        strategy.module, asked.net.module, None, 0, task=asked.task, recipe=recipe, out=out,
        steps=strategy.steps, until=until, companion=strategy, **more,
    )  # fmt: skip
