"""What each step does with a workspace and a RUN folder; `pruner.run` is how they are called."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import latency_tables

from ..errors import PrunerError
from ..search import Candidate, choose, evaluate_candidates, resolve_margin
from ..structure import Importance, Plan
from ..surgery import apply, load, save
from ..utils import digest_json, write_text
from . import console_summary as summary
from . import metrics as figures
from . import run_folder as names
from .config import Config
from .console_summary import Outcome
from .context import Workspace, resolve_paths
from .finetune_stage import assist, assist_reference, dense_accuracy, reference_accuracy, tune
from .iterative import RoundStart, load_round, prune_in_rounds, rounds_key, score_network
from .rotation_stage import load_rotation, rotate_network
from .run_folder import RunFolder

if TYPE_CHECKING:
    from torch import fx

# Runs of each network in the comparison that ends a solve.
RUNS = 120
# Measured over budget from which a structure is solved for once more, with less to spend.
TOLERANCE = 1.02


def measure(space: Workspace, config: Config) -> Outcome:
    folder, options = space.base, config.measure
    net, engine = space.net, space.engine
    if not net.dims and not net.blocks:
        raise PrunerError(
            f"{space.dense.name} has nothing that can be cut: msprune inspect says why"
        )
    fresh = not folder.exists
    with folder.lock():
        state = space.new_state(config) if fresh else folder.state()
        if fresh:
            folder.write_state(state)
        try:
            with space.progress.task("measure") as advance:
                table = latency_tables.measure(
                    net,
                    engine,
                    probes=options.probes,
                    quick=options.quick,
                    path=folder.path,
                    library=shared_tables(options.library),
                    seed=config.seed,
                    progress=lambda p: advance(p.done, p.total, p.note),
                )
        except latency_tables.LatencyError:
            if fresh:  # nothing was measured: leave nothing behind
                for name in (names.STATE, "latency.journal"):
                    (folder / name).unlink(missing_ok=True)
            raise
        content = resolve_paths(config).to_dict()
        if fresh or digest_json(content) != digest_json(state["config"]):
            folder.commit(
                "measure", digest_json(asdict(options)), lambda path: None, config=content
            )
    return summary.summarize_table(space, table)


def shared_tables(name: str | None) -> Path | None:
    """The folder of tables that networks share; None where that is off."""
    if name == "none":
        return None
    return Path(name) if name is not None else latency_tables.library_folder()


def child(space: Workspace, base: RunFolder, config: Config) -> RunFolder:
    """The sub-folder of one budget, begun if need be."""
    slug = config.budgets[0].slug
    folder = RunFolder(base / slug)
    if not folder.exists:
        folder.write_state(space.new_state(config, part_of_parent=True))
    state = base.state()
    if slug not in state["budgets"]:
        state["budgets"].append(slug)
        base.write_state(state)
    return folder


def several_budgets(folder: RunFolder) -> str:
    children = ", ".join(str(folder / slug) for slug in folder.state()["budgets"])
    return f"{folder.path} holds several budgets ({children})"


def need_plan(folder: RunFolder) -> None:
    if folder.state()["budgets"]:
        raise PrunerError(f"{several_budgets(folder)}: give one of them")
    if "solve" not in folder.state()["steps"]:
        raise PrunerError(f"{folder.path} holds no plan: msprune solve {folder.path} --budget 50%")


def importance(space: Workspace, config: Config) -> Any:
    key = {"score": asdict(config.score), "seed": config.seed, "data": None}
    if config.data is not None:
        key["data"] = space.data.fingerprint()
    path = space.base / names.IMPORTANCE
    if space.base.finished("score", digest_json(key)):
        return Importance.load(path)
    net, _ = rotate_network(space, config)
    scores = score_network(space, config, net)
    space.base.commit(
        "score",
        digest_json(key),
        lambda scratch: scores.save(scratch / names.IMPORTANCE),
        config=config.to_dict() if space.base.state()["budgets"] == [] else None,
    )
    return scores


def solve(space: Workspace, folder: RunFolder, config: Config) -> Outcome:
    _ = space.dense  # refuses a RUN of another network
    table = space.table()
    uncut_ms = figures.dense_ms(space.net, table)
    budget = config.budgets[0]
    budget_ms = budget.to_ms(uncut_ms, space.shape()[0])
    key = digest_json(
        {
            "budget": str(budget),
            "solve": asdict(config.solve),
            "score": asdict(config.score),
            "rounds": rounds_key(config),
            "measure": asdict(config.measure),
            "data": space.data.fingerprint() if config.data else None,
            "seed": config.seed,
        }
    )
    if folder.finished("solve", key):
        return summary.summarize_solve(
            folder.path, figures.Metrics.load(folder.verify(names.METRICS))
        )
    scores = importance(space, config)
    net, rotation = rotate_network(space, config)
    start = prune_in_rounds(space, folder, config, RoundStart(net, scores), budget_ms)
    candidates, journal = _tried(space, folder, config, start, budget_ms, key)
    aim_ms = budget_ms
    for attempt in range(2):
        choice = choose(
            net,
            table,
            start.scores,
            space.engine,
            aim_ms,
            config.solve,
            space.progress,
            keep=lambda grown: grown.save(space.base.path),
            within=start.plan,
            candidates=candidates,
        )
        small = apply(start.net, choice.best.plan)
        metrics = figures.collect_metrics(space, budget, budget_ms, choice, small)
        if not config.solve.check:
            break
        space.progress.say("  timing dense and pruned in turn")
        metrics = figures.add_timings(metrics, figures.time_in_turn(space, small, RUNS))
        assert metrics.pruned.latency_ms is not None
        over = metrics.pruned.latency_ms / metrics.budget_ms
        if over <= TOLERANCE:
            break
        space.progress.say(f"  {over - 1:+.1%} from the budget when timed in turn")
        if attempt == 0:
            table, aim_ms = choice.table, aim_ms / over
            # those before measured above the budget
            candidates = candidates[len(choice.rounds) - 1 :]
    if metrics.warning:
        space.progress.say(f"  warning: {metrics.warning}")

    def write(scratch: Path) -> None:
        _save(small, choice.best.plan, scratch)
        write_text(scratch / names.METRICS, metrics.to_json())

    folder.commit(
        "solve",
        key,
        write,
        details={"rotation": rotation, "weights": start.weights},
        config=config.to_dict(),
        forget=("finetune", "bench"),
    )
    journal.unlink(missing_ok=True)
    _outdate(space, folder)
    return summary.summarize_solve(folder.path, metrics)


def _tried(
    space: Workspace,
    folder: RunFolder,
    config: Config,
    start: RoundStart,
    budget_ms: float,
    key: str,
) -> tuple[tuple[Candidate, ...], Path]:
    """Structures that were tried, if any are to be, and the file that keeps what they lose."""
    options, table = config.solve, space.table()
    journal = folder / names.CHECKPOINTS / f"trials-{key[:16]}.txt"
    if not options.trials:
        return (), journal
    images = space.data.train(
        config.score.batch_size, augment=False, seed=config.seed, limit=config.score.images
    )
    with space.progress.task("try structures") as advance:
        found = evaluate_candidates(
            start.net,
            table,
            start.scores,
            images,
            budget_ms,
            options.trials,
            steps=options.trial_steps,
            margin=resolve_margin(options, table),
            within=start.plan,
            journal=journal,
            progress=advance,
        )
    return found, journal


def finetune(space: Workspace, folder: RunFolder, config: Config) -> Outcome:
    options = config.finetune
    plan = Plan.load(folder.verify(names.PLAN))
    key = _finetune_key(space, folder, config, plan)
    if folder.finished("finetune", key):
        return summary.summarize_finetune(figures.Metrics.load(folder.verify(names.METRICS)))
    metrics = figures.Metrics.load(folder.verify(names.METRICS))
    metrics = metrics.with_dense(accuracy=dense_accuracy(space))
    if options.reference and options.epochs:
        accuracy = reference_accuracy(space, config)
        metrics = metrics.with_dense(accuracy_after_same_finetune=accuracy)
    solved = folder.state()["steps"]["solve"]
    dense = load_rotation(space, solved.get("rotation"))
    net = load_round(dense, folder, solved.get("weights"))
    small, tuned = tune(space, net, dense, config, plan, folder / names.CHECKPOINTS / key[:16])
    metrics = metrics.with_pruned(**tuned).model_copy(update={"finetune": _said(config)})

    def write(scratch: Path) -> None:
        _save(small, plan, scratch)
        write_text(scratch / names.METRICS, metrics.to_json())

    folder.commit("finetune", key, write, config=config.to_dict())
    _outdate(space, folder)
    shutil.rmtree(folder / names.CHECKPOINTS, ignore_errors=True)
    return summary.summarize_finetune(metrics)


def assist_finetune(space: Workspace, folder: RunFolder, config: Config) -> Outcome:
    """What the other processes of `accelerate launch` do while the first one is in `finetune`."""
    key = _finetune_key(space, folder, config, Plan.load(folder.verify(names.PLAN)))
    if folder.finished("finetune", key) is None:
        if config.finetune.reference and config.finetune.epochs:
            assist_reference(space, config)
        assist(space, config, folder / names.CHECKPOINTS / key[:16])
    return Outcome("", {})


def _finetune_key(space: Workspace, folder: RunFolder, config: Config, plan: Plan) -> str:
    return digest_json(
        {
            "finetune": asdict(config.finetune),
            "data": space.data.fingerprint(),
            "plan": digest_json(plan.to_json()),
            "solve": folder.state()["steps"]["solve"]["key"],  # its rounds may have tuned
            "seed": config.seed,
        }
    )


def bench(space: Workspace, folder: RunFolder, config: Config, runs: int) -> Outcome:
    _ = space.dense, space.table()  # refuse another network's or device's RUN
    metrics = figures.Metrics.load(folder.verify(names.METRICS))
    for name in folder.state()["steps"]["solve"]["files"]:
        folder.verify(name)
    small = load(folder.path)
    metrics = figures.add_timings(metrics, figures.time_in_turn(space, small, runs))
    folder.commit(
        "bench",
        digest_json(runs),
        lambda scratch: write_text(scratch / names.METRICS, metrics.to_json()),
    )
    _outdate(space, folder)
    return summary.summarize_bench(metrics)


def _save(small: fx.GraphModule, plan: Plan, scratch: Path) -> None:
    save(small, plan, scratch)


def _outdate(space: Workspace, folder: RunFolder) -> None:
    """Reports of what was before are taken away."""
    for place in (folder, space.base):
        (place / names.REPORT).unlink(missing_ok=True)


def _said(config: Config) -> str:
    """The fine-tune in a line of the report."""
    options = config.finetune
    repaired = f"repaired on {options.repair} images, " if options.repair else ""
    if config.rounds.count > 1:
        repaired = f"cut in {config.rounds.count} rounds of tuning, {repaired}"
    if not options.epochs:
        return f"{repaired}batch-norm statistics only"
    images = f"{options.images} images" if options.images else "all images"
    teacher = ", taught by the dense network" if options.distill else ""
    return repaired + (
        f"{options.epochs} epochs of {images}, {options.optimizer}, peak lr {options.peak_lr:g}, "
        f"batch {options.batch}{teacher}"
    )
