"""A solve by a strategy: it trains, the structure is chosen and measured, it trains to its end."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from torch import fx

from ..errors import PrunerError
from ..problem import Constraints, find_matches
from ..search import choose
from ..strategies import Strategy, StrategySetting, make_strategy
from ..structure import Importance, Network, Plan
from ..surgery import apply
from ..utils import SilentProgress, write_text
from .context import Workspace
from .iterative import RoundStart, load_round, write_weights
from .metrics import Metrics
from .run_folder import CHECKPOINTS
from .score_stage import score_network
from .tuning_stage import train_strategy

WEIGHTS = "strategy.safetensors"
_PLAN, _METRICS = "strategy-plan.json", "strategy-metrics.json"

Chosen: TypeAlias = tuple[tuple[fx.GraphModule, Plan], Metrics]
"""A cut network with its plan, and its figures."""


def check_strategy(space: Workspace) -> None:
    """Refuse what the strategy of a RUN's configuration cannot do, before anything is done."""
    options, name = space.config.solve, space.config.solve.strategy
    if name == "once":
        return
    for flag, given in (("rounds", space.config.rounds.count > 1), ("trials", options.trials > 0)):
        if given:
            raise PrunerError(
                f"strategy {name} finds its own way to the budget: it takes no {flag} (--{flag} "
                f"{1 if flag == 'rounds' else 0}, or --strategy once)"
            )
    if not space.has_task:
        raise PrunerError(
            f"strategy {name} trains the network: give --data DIR, or --task package.module:factory"
        )
    space.check_data()


def solve_by_strategy(
    space: Workspace,
    start: RoundStart,
    budget_ms: float,
    constraints: Constraints,
    choose_structure: Callable[[RoundStart], Chosen],
) -> tuple[Chosen, str]:
    """Train, choose, train on; returns the cut network with its figures, and its weights' file.

    Each of the three is kept in the RUN: what was measured is not measured again.
    """
    key, folder = space.keys.solve, space.folder
    checkpoints = folder / CHECKPOINTS / f"strategy-{key[:16]}"

    def make() -> Strategy:
        return make_strategy(_ask(space, start, budget_ms, constraints), space.config.solve)

    if folder.find_record("structure", key) is None:
        strategy = make()
        asked = strategy.asked
        asked.pick(asked.net, asked.scores, budget_ms)  # refused before anything is trained
        train_strategy(space, strategy, checkpoints, strategy.choice_step)
        space.progress.say("  choosing the structure by what was trained")
        found = strategy.conclude()
        (_, plan), metrics = choose_structure(
            RoundStart(found.net, found.scores, beyond=found.beyond)
        )

        def write_choice(scratch: Path) -> None:
            plan.save(scratch / _PLAN)
            write_text(scratch / _METRICS, metrics.to_json())

        folder.commit("structure", key, write_choice)
    plan, metrics = Plan.load(folder.verify(_PLAN)), Metrics.load(folder.verify(_METRICS))
    if folder.find_record("strategy", key) is None:
        strategy = make()
        strategy.settle(plan)
        train_strategy(space, strategy, checkpoints)
        tensors = strategy.read_network().program.tensors
        folder.commit("strategy", key, lambda to: write_weights(to / WEIGHTS, tensors, plan))
        shutil.rmtree(checkpoints, ignore_errors=True)
    small = apply(load_round(start.net, folder, WEIGHTS), plan)
    return ((small, plan), metrics), WEIGHTS


def _ask(
    space: Workspace, start: RoundStart, budget_ms: float, constraints: Constraints
) -> StrategySetting:
    """Return what a strategy starts from: structures on its way are picked by the table alone."""
    table = space.load_table()
    dense_ms = float(table.uncut_ms(space.net))
    # Both are called while a bar shows the training.
    quiet = replace(space, progress=SilentProgress())
    options = replace(space.config.solve, check=False)

    def pick(
        net: Network, scores: Importance, target_ms: float,
        within: Plan | None = None, beyond: Plan | None = None,
    ) -> Plan:  # fmt: skip
        loose = constraints.loosen(space.net, find_progress(dense_ms, budget_ms, target_ms))
        return choose(
            net, table, scores, space.engine, target_ms, options, quiet.progress,
            keep=lambda grown: None, within=within, beyond=beyond, constraints=loose,
        ).best.plan  # fmt: skip

    dims, blocks = _list_prunable(start.net, constraints)
    return StrategySetting(
        start.net, start.scores, dense_ms, budget_ms, pick,
        lambda net: score_network(quiet, net), dims, blocks, space.progress.say,
    )  # fmt: skip


def find_progress(dense_ms: float, budget_ms: float, target_ms: float) -> float:
    """Return how far on the way from dense to a budget a latency is, in [0, 1]."""
    if budget_ms >= dense_ms:
        return 1.0
    return min(max((dense_ms - target_ms) / (dense_ms - budget_ms), 0.0), 1.0)


def _list_prunable(
    net: Network, constraints: Constraints
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the Dims and Blocks that are not held whole."""
    found = [find_matches(net, glob, "keep") for glob in constraints.keep]
    dims = {name for names, _ in found for name in names}
    blocks = {name for _, names in found for name in names}
    return (
        tuple(name for name in net.dims if name not in dims),
        tuple(n for n in net.blocks if n not in blocks) if constraints.blocks else (),
    )
