"""The iterative pruning schedule: score, solve for a part of the way, cut, tune, score again."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..problem import Constraints
from ..search import choose
from ..structure import Importance, Network, Plan
from ..surgery import compact_network, replace_tensors, scatter_importance, scatter_tensors
from ..utils import read_tensors, write_tensors
from .context import Workspace
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
        beyond: What is to be kept if that meets the budget; None: nothing.
    """

    net: Network
    scores: Importance
    plan: Plan | None = None
    weights: str | None = None
    beyond: Plan | None = None


def prune_in_rounds(
    space: Workspace, start: RoundStart, budget_ms: float, constraints: Constraints
) -> RoundStart:
    """Run all rounds but the last, each kept in the RUN, and return what the last one starts from.

    Their structures are chosen by the table alone: only the last one's is held to the budget.
    """
    folder, dense = space.folder, start.net
    for number in range(1, space.config.rounds.count):
        key = space.keys.of_round(number, budget_ms)
        if folder.find_record(f"round {number}", key) is None:
            _run_round(space, dense, start, number, budget_ms, constraints, key)
        tensors, notes = read_tensors(folder.verify(_name_file(number)), _KIND)
        scores = Importance.load(folder.verify(_name_file(number, "-importance")))
        plan = Plan.from_json(json.dumps(notes["plan"]))
        start = RoundStart(replace_tensors(start.net, tensors), scores, plan, _name_file(number))
    return start


def _run_round(
    space: Workspace,
    dense: Network,
    start: RoundStart,
    number: int,
    budget_ms: float,
    constraints: Constraints,
    key: str,
) -> None:
    """Do one round and commit it to the RUN; dense has the trained weights."""
    table, count = space.load_table(), space.config.rounds.count
    uncut_ms = table.uncut_ms(space.net)
    # Every round takes the same factor.
    target_ms = float(uncut_ms * (budget_ms / uncut_ms) ** (number / count))
    space.progress.say(f"  round {number} of {count}: {target_ms:.4g} ms")
    plan = choose(
        start.net, table, start.scores, space.engine, target_ms,
        replace(space.config.solve, check=False), space.progress, keep=lambda grown: None,
        within=start.plan, constraints=constraints.loosen(space.net, number / count),
    ).best.plan  # fmt: skip
    checkpoints = space.folder / CHECKPOINTS / f"round-{key[:16]}"
    small = tune_round(space, start.net, dense, plan, checkpoints, f"tune round {number}")
    tensors = scatter_tensors(start.net, plan, small)
    net = replace_tensors(start.net, tensors)
    scores = scatter_importance(
        score_network(space, compact_network(net, plan), checkpoints / "score"), net, plan
    )

    def write(scratch: Path) -> None:
        write_weights(scratch / _name_file(number), tensors, plan)
        scores.save(scratch / _name_file(number, "-importance"))

    space.folder.commit(f"round {number}", key, write)
    shutil.rmtree(checkpoints, ignore_errors=True)


def write_weights(path: Path, tensors: Mapping[str, Tensor], plan: Plan) -> None:
    """Write the dense network's tensors, as they were trained, and the plan that cuts them."""
    write_tensors(path, _KIND, tensors, {"plan": json.loads(plan.to_json())})


def load_round(net: Network, folder: RunFolder, weights: str | None) -> Network:
    """Return the network that a RUN's plan cuts: with the weights of its last round but one."""
    if weights is None:
        return net
    tensors, _ = read_tensors(folder.verify(weights), _KIND)
    return replace_tensors(net, tensors)


def _name_file(number: int, suffix: str = "") -> str:
    return f"round-{number}{suffix}.safetensors"
