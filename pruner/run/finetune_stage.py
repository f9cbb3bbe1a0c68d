"""The verb finetune: tunes a RUN's cut network, and says what the dense one would get."""

import copy
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import PrunerError
from ..structure import Plan
from ..utils import ProgressDisplay, process_rank
from .config import Config
from .console_summary import Outcome, summarize_finetune
from .context import Workspace, open_run
from .iterative import load_round
from .metrics import EpochMetrics, name_figures
from .results import commit_results, read_metrics, require_plan
from .rotation_stage import load_rotation
from .run_folder import CHECKPOINTS, PLAN
from .tuning_stage import evaluate_network, join_tuning, train, train_and_evaluate, tune


def finetune(
    run: str | os.PathLike[str] | Workspace,
    changes: Mapping[str, Any] | None = None,
    progress: ProgressDisplay | None = None,
) -> Outcome:
    """Win back what the cut network lost, with the dense one as the teacher.

    The RUN is one that was solved, or the Workspace of one that the caller has opened; changes are
    the entries of `Config` that differ from what it was given before. In the processes that
    `accelerate launch` starts, the first does all but the training, which they share.
    """
    first = process_rank() == 0
    with open_run(run, changes, progress if first else None, first, shared=True) as space:
        if space is not run:
            _check_request(space, changes or {})
        space.check_identity()
        plan = Plan.load(space.folder.verify(PLAN))
        solved = space.folder.read_state()["steps"]["solve"]
        key = space.keys.of_finetune(plan, solved["key"])
        record = space.folder.find_record("finetune", key)
        if not first:
            if record is None:
                _join_finetune(space, key)
            return Outcome("", {})
        kinds = space.task.judge().kinds
        metrics = read_metrics(space.folder).with_metrics(kinds)
        if record is not None:
            return summarize_finetune(metrics)
        # What an earlier fine-tune had, such as a repair or a reference, this one need not have.
        metrics = metrics.without_values()
        metrics = metrics.with_dense(**name_figures(evaluate_dense(space), kinds[0].key))
        if _tunes_reference(space):
            values = tune_reference(space)
            suffix = "_after_same_finetune"
            metrics = metrics.with_dense(**name_figures(values, kinds[0].key, suffix))
        dense = load_rotation(space, solved.get("rotation"))
        net = load_round(dense, space.folder, solved.get("weights"))
        small, figures, history = tune(space, net, dense, plan, _find_checkpoints(space, key))
        metrics = metrics.with_pruned(**figures)
        epochs = tuple(
            EpochMetrics(epoch=one.epoch, loss=one.loss, test=one.test_value)
            for one in history.epochs
        )
        told = {"finetune": describe_finetune(space.config), "epochs": epochs}
        metrics = metrics.model_copy(update=told)
        commit_results(space, "finetune", key, metrics, (small, plan))
        shutil.rmtree(space.folder / CHECKPOINTS, ignore_errors=True)
        return summarize_finetune(metrics)


def _check_request(space: Workspace, changes: Mapping[str, Any]) -> None:
    require_plan(space.folder)
    if "epochs" not in changes.get("finetune", {}) and not space.config.finetune.epochs:
        raise PrunerError(f"{space.folder.path} was not told for how long: give --epochs N")


def _join_finetune(space: Workspace, key: str) -> None:
    """Do another process's part in the training of `finetune`."""
    if _tunes_reference(space):
        reference, folder = _find_reference(space)
        if space.base.find_record("reference", reference) is None:
            train(space, copy.deepcopy(space.net.module), folder, "finetune dense")
    join_tuning(space, _find_checkpoints(space, key))


def evaluate_dense(space: Workspace) -> dict[str, float]:
    """Return the dense network's metrics on the test samples, evaluated once a RUN."""
    module = space.net.module
    return _keep_values(
        space, "dense", space.keys.dense, lambda: evaluate_network(space, module, "evaluate dense")
    )


def tune_reference(space: Workspace) -> dict[str, float]:
    """Return the dense network's metrics after the very fine-tune that the pruned one gets."""
    key, folder = _find_reference(space)

    def tune_copy() -> dict[str, float]:
        module = copy.deepcopy(space.net.module)
        return train_and_evaluate(space, module, folder, "finetune dense")[0]

    return _keep_values(space, "reference", key, tune_copy)


def _keep_values(
    space: Workspace, step: str, key: str, evaluate: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """Return values by the metrics' keys, out of the RUN where they were measured before."""
    names = [kind.key for kind in space.task.judge().kinds]
    record = space.base.find_record(step, key)
    if record is None or not record.keys() >= {*names}:
        record = evaluate()
        space.base.commit(step, key, lambda scratch: None, record)
    return {name: float(record[name]) for name in names}


def describe_finetune(config: Config) -> str:
    """Describe the fine-tune in a line of the report."""
    options, word = config.finetune, "images" if config.task is None else "samples"
    start = f"repaired on {options.repair} {word}, " if options.repair else ""
    if config.rounds.count > 1:
        start = f"cut in {config.rounds.count} rounds of tuning, {start}"
    solve = config.solve
    if solve.strategy == "progressive":
        start = f"shrunk over {solve.progressive_steps} batches of training, {start}"
    elif solve.strategy == "explore":
        start = f"cut and grown in {solve.explore_rounds} rounds of training, {start}"
    if not options.epochs:
        return f"{start}batch-norm statistics only"
    images = f"{options.images} {word}" if options.images else f"all {word}"
    teacher = ", taught by the dense network" if options.distill else ""
    return start + (
        f"{options.epochs} epochs of {images}, {options.optimizer}, peak lr {options.peak_lr:g}, "
        f"batch {options.batch}{teacher}"
    )


def _tunes_reference(space: Workspace) -> bool:
    return bool(space.config.finetune.reference and space.config.finetune.epochs)


def _find_reference(space: Workspace) -> tuple[str, Path]:
    key = space.keys.reference
    return key, space.base / CHECKPOINTS / f"reference-{key[:16]}"


def _find_checkpoints(space: Workspace, key: str) -> Path:
    return space.folder / CHECKPOINTS / key[:16]
