"""Towards a budget in rounds: score, solve for a part of the way, cut, tune, and score again."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch.nn.functional import cross_entropy

from ..graph import extract_logits
from ..importance import score
from ..search import choose
from ..structure import Importance, Network, Plan
from ..surgery import compact_network, replace_tensors, scatter_importance, scatter_tensors
from ..utils import digest_json, read_tensors, write_tensors
from .config import Config
from .context import Workspace
from .finetune_stage import tune_round
from .metrics import dense_ms
from .run_folder import CHECKPOINTS, RunFolder

_KIND = "round"


@dataclass(frozen=True)
class RoundStart:
    """What a round starts from.

    net is the dense network with the weights of the round before in their places, scores are of
    what that round left, plan; weights names the file in the RUN that they are in. The first round
    has neither plan nor file.
    """

    net: Network
    scores: Importance
    plan: Plan | None = None
    weights: str | None = None


def prune_in_rounds(
    space: Workspace, folder: RunFolder, config: Config, start: RoundStart, budget_ms: float
) -> RoundStart:
    """All rounds but the last, each kept in the RUN; what the last one starts from.

    Their structures are chosen by the table alone: only the last one's is held to the budget.
    """
    if config.rounds.count == 1:
        return start
    way = _Schedule(space, folder, config, start.net, budget_ms)
    for number in range(1, config.rounds.count):
        if folder.finished(_step(number), way.key(number)) is None:
            way.take(start, number)
        start = _loaded(folder, start.net, number)
    return start


@dataclass(frozen=True)
class _Schedule:
    """What is the same in all rounds; dense has the trained weights."""

    space: Workspace
    folder: RunFolder
    config: Config
    dense: Network
    budget_ms: float

    def key(self, number: int) -> str:
        data = self.space.data.fingerprint()
        return digest_json([rounds_key(self.config), number, self.budget_ms, data])

    def goal_ms(self, number: int) -> float:
        """Every round takes the same factor."""
        uncut_ms = dense_ms(self.space.net, self.space.table())
        return float(uncut_ms * (self.budget_ms / uncut_ms) ** (number / self.config.rounds.count))

    def take(self, start: RoundStart, number: int) -> None:
        """One round, into the RUN."""
        space, config, goal_ms = self.space, self.config, self.goal_ms(number)
        space.progress.say(f"  round {number} of {config.rounds.count}: {goal_ms:.4g} ms")
        choice = choose(
            start.net,
            space.table(),
            start.scores,
            space.engine,
            goal_ms,
            replace(config.solve, check=False),
            space.progress,
            keep=lambda grown: None,
            within=start.plan,
        )
        plan, key = choice.best.plan, self.key(number)
        checkpoints = self.folder / CHECKPOINTS / f"round-{key[:16]}"
        label = f"tune round {number}"
        small = tune_round(space, start.net, self.dense, config, plan, checkpoints, label)
        tensors = scatter_tensors(start.net, plan, small)
        net = replace_tensors(start.net, tensors)
        scores = scatter_importance(
            score_network(space, config, compact_network(net, plan)), net, plan
        )

        def write(scratch: Path) -> None:
            notes = {"plan": json.loads(plan.to_json())}
            write_tensors(scratch / _file(number), _KIND, tensors, notes)
            scores.save(scratch / _file(number, "-importance"))

        self.folder.commit(_step(number), key, write)
        shutil.rmtree(checkpoints, ignore_errors=True)


def score_network(space: Workspace, config: Config, net: Network) -> Importance:
    """Scores of a network as the configuration says."""
    options = config.score
    batches = None
    if config.data is not None:
        batches = space.data.train(
            options.batch_size, augment=False, seed=config.seed, limit=options.images
        )
    with space.progress.task(f"score by {options.criterion}") as advance:
        return score(
            net,
            batches,
            lambda results, labels: cross_entropy(extract_logits(results), labels),
            options.criterion,
            progress=advance,
        )


def load_round(net: Network, folder: RunFolder, weights: str | None) -> Network:
    """The network that a RUN's plan cuts: with the weights of its last round but one."""
    if weights is None:
        return net
    tensors, _ = read_tensors(folder.verify(weights), _KIND)
    return replace_tensors(net, tensors)


def _loaded(folder: RunFolder, net: Network, number: int) -> RoundStart:
    tensors, notes = read_tensors(folder.verify(_file(number)), _KIND)
    scores = Importance.load(folder.verify(_file(number, "-importance")))
    plan = Plan.from_json(json.dumps(notes["plan"]))
    return RoundStart(replace_tensors(net, tensors), scores, plan, _file(number))


def rounds_key(config: Config) -> dict[str, Any]:
    """What the rounds depend on, as plain data; nothing where there is but one."""
    if config.rounds.count == 1:
        return {}
    sections = ("rounds", "score", "solve", "finetune")
    key = {name: asdict(getattr(config, name)) for name in sections}
    for name in ("epochs", "evaluate_every", "reference"):  # of the last tuning alone
        del key["finetune"][name]
    return key | {"seed": config.seed}


def _step(number: int) -> str:
    return f"round {number}"


def _file(number: int, suffix: str = "") -> str:
    return f"round-{number}{suffix}.safetensors"
