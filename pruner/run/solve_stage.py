"""The verb solve: chooses a RUN's structure for a budget, and cuts the network."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import fx

from latency_tables import LatencyTable, RemoteEngine

from ..errors import PrunerError
from ..problem import Constraints
from ..search import Candidate, choose, evaluate_candidates, resolve_margin
from ..structure import Network, Plan
from ..surgery import apply
from ..utils import ProgressDisplay, require_single_process
from .collect_metrics import add_timings, collect_metrics, time_in_turn
from .console_summary import Outcome, summarize_solve
from .constraints import load_constraints
from .context import Workspace, open_run
from .iterative import RoundStart, prune_in_rounds
from .metrics import Metrics
from .results import commit_results, describe_budgets, read_metrics
from .rotation_stage import draw_batches, rotate_network
from .run_folder import CHECKPOINTS
from .score_stage import load_importance
from .strategy_stage import Chosen, check_strategy, solve_by_strategy
from .structure_metrics import collect_structure
from .whole_model import time_whole

# Runs of each network in the comparison that ends a solve.
RUNS = 120
# Measured over budget from which a structure is solved for once more, with less to spend.
TOLERANCE = 1.02


def solve(
    run: str | os.PathLike[str] | Workspace,
    changes: Mapping[str, Any] | None = None,
    progress: ProgressDisplay | None = None,
) -> Outcome:
    """Choose the structure for one budget, verify it on the device, and cut the network.

    The RUN is one that was measured, or the Workspace of one that the caller has opened; changes
    are the entries of `Config` that differ from what it was given before.
    """
    require_single_process("solve")
    with open_run(run, changes, progress) as space:
        if space is not run:
            _check_budget(space)
        space.check_identity()
        check_strategy(space)
        table = space.load_table()
        dense_ms, batch = table.uncut_ms(space.net), space.input_shape[0]
        budget_ms = space.config.budgets[0].to_ms(dense_ms, batch)
        constraints = load_constraints(space)
        key = space.keys.solve
        if space.folder.find_record("solve", key):
            return summarize_solve(space.folder.path, read_metrics(space.folder))
        scores = load_importance(space)
        net, rotation = rotate_network(space)
        start = prune_in_rounds(space, RoundStart(net, scores), budget_ms, constraints)
        journal = space.folder / CHECKPOINTS / f"trials-{key[:16]}.txt"
        asked = _Question(table, budget_ms, constraints)

        def choose_structure(beginning: RoundStart) -> Chosen:
            candidates = _rank_candidates(space, beginning, asked, journal)
            return _choose_structure(space, net, beginning, asked, candidates)

        weights = start.weights
        if space.config.solve.strategy == "once":
            network, metrics = choose_structure(start)
        else:
            (network, metrics), weights = solve_by_strategy(
                space, start, budget_ms, constraints, choose_structure
            )
        if metrics.warning:
            space.progress.say(f"  warning: {metrics.warning}")
        details = {"rotation": rotation, "weights": weights}
        commit_results(space, "solve", key, metrics, network, details, ("finetune", "bench"))
        journal.unlink(missing_ok=True)
        return summarize_solve(space.folder.path, metrics)


def _check_budget(space: Workspace) -> None:
    if len(space.config.budgets) != 1:
        raise PrunerError("solve takes one budget: --budget 50%, 12ms or 80fps")
    if space.folder.read_state()["budgets"]:
        raise PrunerError(
            f"{describe_budgets(space.folder)}; for another budget measure into another RUN"
        )


@dataclass(frozen=True)
class _Question:
    """What is asked of the structure."""

    table: LatencyTable
    budget_ms: float
    constraints: Constraints


def _rank_candidates(
    space: Workspace, start: RoundStart, asked: _Question, journal: Path
) -> tuple[Candidate, ...]:
    """Try structures out, if any are to be; journal keeps what they lose."""
    options = space.config.solve
    if not options.trials:
        return ()
    batches = draw_batches(space)
    with space.progress.task("try structures") as advance:
        return evaluate_candidates(
            start.net, asked.table, start.scores, batches, asked.budget_ms, options.trials,
            task=space.task, steps=options.trial_steps, margin=resolve_margin(options, asked.table),
            within=start.plan, constraints=asked.constraints, journal=journal, progress=advance,
        )  # fmt: skip


def _choose_structure(
    space: Workspace,
    net: Network,
    start: RoundStart,
    asked: _Question,
    candidates: Sequence[Candidate],
) -> tuple[tuple[fx.GraphModule, Plan], Metrics]:
    """Choose, cut, and time dense and pruned in turn; once more where that is over the budget."""
    options, table, target_ms = space.config.solve, asked.table, asked.budget_ms
    by_hand = isinstance(space.engine, RemoteEngine) and not space.engine.grows

    def keep(grown: LatencyTable) -> None:
        # By hand this is called again for every measurement: it has to ask for the same ones.
        if not by_hand:
            grown.save(space.base.path)

    for last in (False, True):
        choice = choose(
            net, table, start.scores, space.engine, target_ms, options, space.progress,
            keep=keep, within=start.plan, beyond=start.beyond,
            candidates=candidates, constraints=asked.constraints,
        )  # fmt: skip
        small = apply(start.net, choice.best.plan)
        structure = collect_structure(space.net, choice.table, choice.best.plan)
        metrics = collect_metrics(
            space, asked.budget_ms, choice, small, asked.constraints, structure
        )
        if not options.check:
            break
        space.progress.say("  timing dense and pruned in turn")
        metrics = add_timings(metrics, time_in_turn(space, small, RUNS))
        assert metrics.pruned.latency_ms is not None
        over = metrics.pruned.latency_ms / metrics.budget_ms
        if over <= TOLERANCE:
            break
        space.progress.say(f"  {over - 1:+.1%} from the budget when timed in turn")
        if not last:
            table, target_ms = choice.table, target_ms / over
            # Those before measured above the budget.
            candidates = candidates[len(choice.rounds) - 1 :]
    if by_hand and options.check:
        choice.table.save(space.base.path)
    whole = time_whole(space, small)
    if whole is not None:
        metrics = metrics.model_copy(update={"whole": whole})
    return (small, choice.best.plan), metrics
