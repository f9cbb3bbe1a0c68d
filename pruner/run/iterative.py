"""The iterative pruning schedule: score, solve for a part of the way, cut, tune, score again."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from ..search import choose
from ..structure import Importance, Network, Plan
from ..surgery import compact_network, replace_tensors, scatter_importance, scatter_tensors
from ..utils import read_tensors, write_tensors
from .context import Workspace
from .metrics import dense_ms
from .run_folder import CHECKPOINTS, RunFolder
from .score_stage import score_network
from .tuning_stage import tune_round

_KIND = "round"


@dataclass(frozen=True)
class RoundStart:
    """What a round starts from.

    Attributes:
        net: The dense network with the weights of the round before in their places.
        scores: The importance of what that round left.
        plan: What it left; None before the first round.
        weights: The file in the RUN that its weights are in; None before the first round.
    """

    net: Network
    scores: Importance
    plan: Plan | None = None
    weights: str | None = None


def prune_in_rounds(space: Workspace, start: RoundStart, budget_ms: float) -> RoundStart:
    """Run all rounds but the last, each kept in the RUN, and return what the last one starts from.

    Their structures are chosen by the table alone: only the last one's is held to the budget.
    """
    schedule = _Schedule(space, start.net, budget_ms)
    for number in range(1, space.config.rounds.count):
        key = space.keys.of_round(number, budget_ms)
        if space.folder.find_record(_name_step(number), key) is None:
            schedule.run_round(start, number, key)
        start = _load_start(space.folder, start.net, number)
    return start


@dataclass(frozen=True)
class _Schedule:
    """What is the same in all rounds; dense has the trained weights."""

    space: Workspace
    dense: Network
    budget_ms: float

    def target_ms(self, number: int) -> float:
        """Return the latency of a round: every round takes the same factor."""
        uncut_ms = dense_ms(self.space.net, self.space.load_table())
        share = number / self.space.config.rounds.count
        return float(uncut_ms * (self.budget_ms / uncut_ms) ** share)

    def run_round(self, start: RoundStart, number: int, key: str) -> None:
        """Do one round and commit it to the RUN."""
        space, target_ms = self.space, self.target_ms(number)
        space.progress.say(f"  round {number} of {space.config.rounds.count}: {target_ms:.4g} ms")
        plan = self._choose_plan(start, target_ms)
        checkpoints = space.folder / CHECKPOINTS / f"round-{key[:16]}"
        label = f"tune round {number}"
        small = tune_round(space, start.net, self.dense, plan, checkpoints, label)
        tensors = scatter_tensors(start.net, plan, small)
        net = replace_tensors(start.net, tensors)
        scores = scatter_importance(score_network(space, compact_network(net, plan)), net, plan)

        def write(scratch: Path) -> None:
            notes = {"plan": json.loads(plan.to_json())}
            write_tensors(scratch / _name_file(number), _KIND, tensors, notes)
            scores.save(scratch / _name_file(number, "-importance"))

        space.folder.commit(_name_step(number), key, write)
        shutil.rmtree(checkpoints, ignore_errors=True)

    def _choose_plan(self, start: RoundStart, target_ms: float) -> Plan:
        space = self.space
        options = replace(space.config.solve, check=False)
        return choose(
            start.net, space.load_table(), start.scores, space.engine, target_ms, options,
            space.progress, keep=lambda grown: None, within=start.plan,
        ).best.plan  # fmt: skip


def load_round(net: Network, folder: RunFolder, weights: str | None) -> Network:
    """Return the network that a RUN's plan cuts: with the weights of its last round but one."""
    if weights is None:
        return net
    tensors, _ = read_tensors(folder.verify(weights), _KIND)
    return replace_tensors(net, tensors)


def _load_start(folder: RunFolder, net: Network, number: int) -> RoundStart:
    tensors, notes = read_tensors(folder.verify(_name_file(number)), _KIND)
    scores = Importance.load(folder.verify(_name_file(number, "-importance")))
    plan = Plan.from_json(json.dumps(notes["plan"]))
    return RoundStart(replace_tensors(net, tensors), scores, plan, _name_file(number))


def _name_step(number: int) -> str:
    return f"round {number}"


def _name_file(number: int, suffix: str = "") -> str:
    return f"round-{number}{suffix}.safetensors"
