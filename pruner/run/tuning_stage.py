"""Cuts, repairs and tunes a network of a run, in one process or several."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import fx, nn

from ..data import EpochBatches, TaskData
from ..reconstruction import repair
from ..strategies import Strategy
from ..structure import Network, Plan
from ..surgery import FILE, apply, load, save
from ..tuning import History, TuneEvent, evaluate, finetune
from ..utils import digest_file, digest_json, parse_json, write_text
from .context import Workspace
from .metrics import find_written_name, name_figures, rename_figures

# The cut network's figures so far, written last of what comes before the first epoch.
NOTE = "before.json"
# How often other processes look whether it is there.
POLL_S = 0.5


@dataclass(frozen=True)
class FewerImages:
    """The same data with at most that many training samples."""

    data: TaskData
    images: int

    def train(self, batch: int = 128, *, limit: int | None = None, **options: Any) -> EpochBatches:
        """Return training batches of these."""
        limit = self.images if limit is None else min(limit, self.images)
        return self.data.train(batch, limit=limit, **options)

    def test(self, batch: int = 256, **options: Any) -> EpochBatches:
        """Return all test samples."""
        return self.data.test(batch, **options)

    def fingerprint(self) -> str:
        """Return what tells this data set from another."""
        return digest_json([self.data.fingerprint(), self.images])


def tune(
    space: Workspace, net: Network, dense: Network, plan: Plan, folder: Path
) -> tuple[fx.GraphModule, dict[str, Any], History]:
    """Cut, repair and tune a network, and evaluate it as cut, repaired, and at the end.

    The plan cuts net, which has the weights of earlier rounds; dense is the same in the same basis
    (see `pruner.rotate`) with the trained weights, whose values the repair aims at. The folder
    keeps the checkpoint of an interrupted run, and what came before it.
    """
    small, kind = apply(net, plan), space.task.judge().kind
    key, written = kind.key, find_written_name(kind)
    known = _read_note(folder)
    if known is None:
        values = evaluate_network(space, small, "evaluate as cut")
        found = name_figures(values, key, "_before_finetune")
        if space.config.finetune.repair:
            _repair(space, dense, small, plan)
            values = evaluate_network(space, small, "evaluate repaired")
            found |= name_figures(values, key, "_repaired")
        save(small, None, folder)
        known = rename_figures(found, "value", written)
        _write_note(folder, known)
    found = rename_figures(known, written, "value")
    small = load(folder)
    values, history = train_and_evaluate(space, small, folder, "finetune")
    return small, found | name_figures(values, key), history


def _write_note(folder: Path, figures: dict[str, Any]) -> None:
    """Write a cut network's figures beside it, sealed with its file and its run's key."""
    content = {"run": folder.name, "network": digest_file(folder / FILE), "figures": figures}
    write_text(folder / NOTE, json.dumps({**content, "seal": digest_json(content)}))


def _read_note(folder: Path) -> dict[str, Any] | None:
    """Return the figures of the cut network in a folder; None where it is to be made (again)."""
    try:
        content = parse_json((folder / NOTE).read_bytes())
        seal = content.pop("seal")
        network = digest_file(folder / FILE)
        known = (content["run"], content["network"]) == (folder.name, network)
        return content["figures"] if known and seal == digest_json(content) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def join_tuning(space: Workspace, folder: Path) -> None:
    """Do another process's part in `tune`: train what the first one has cut and repaired."""
    while _read_note(folder) is None:
        time.sleep(POLL_S)
    train(space, load(folder), folder, "finetune")


def tune_round(
    space: Workspace, net: Network, dense: Network, plan: Plan, folder: Path, label: str
) -> fx.GraphModule:
    """Cut, repair and tune a network for a round (``config.rounds``); see `tune`."""
    rounds, options = space.config.rounds, space.config.finetune
    small = apply(net, plan)
    if options.repair:
        _repair(space, dense, small, plan)
    short = replace(
        options, epochs=rounds.epochs, images=rounds.images or options.images, evaluate_every=0
    )
    train(space.with_config(replace(space.config, finetune=short)), small, folder, label)
    return small


def train_and_evaluate(
    space: Workspace, module: nn.Module, folder: Path, label: str
) -> tuple[dict[str, float], History]:
    """Fine-tune a network and return its metrics on the test samples by key, and its epochs."""
    history = train(space, module, folder, label)
    if history.value is not None and history.metric is not None:
        return {history.metric.key: history.value, **history.others}, history
    return evaluate_network(space, module, "evaluate"), history


def train(space: Workspace, module: nn.Module, folder: Path, label: str) -> History:
    """Fine-tune a network as the configuration says, with the dense one as the teacher."""
    options = space.config.finetune
    recipe = options.recipe
    if options.repair and not options.epochs:
        # A repair leaves batch-norm statistics right; few images would only blur them.
        recipe = replace(recipe, recalibrate=0)
    data = _limit_data(space)
    with space.progress.task(label) as advance:
        return finetune(
            module, space.net.module, data, options.epochs, task=space.task, recipe=recipe,
            out=folder, seed=space.config.seed,
            progress=lambda event: _report_event(event, advance),
        )  # fmt: skip


def train_strategy(
    space: Workspace, strategy: Strategy, folder: Path, until: int | None = None
) -> None:
    """Train a strategy's network to a step, or to the end; continued from the folder's checkpoint.

    What makes little sense while the structure changes is off: moving average, attention transfer
    and evaluation.
    """
    recipe = replace(
        space.config.finetune.recipe, ema=0.0, attention=0.0, recalibrate=0, evaluate_every=0
    )
    with space.progress.task(f"strategy {strategy.name}") as advance:
        finetune(
            strategy.module, space.net.module, _limit_data(space), 0, task=space.task,
            recipe=recipe, out=folder, seed=space.config.seed, steps=strategy.steps, until=until,
            companion=strategy, progress=lambda event: _report_event(event, advance),
        )  # fmt: skip


def _limit_data(space: Workspace) -> TaskData:
    """Return the data with as many training samples as the configuration says."""
    images = space.config.finetune.images
    return space.data if images is None else FewerImages(space.data, images)


def evaluate_network(space: Workspace, module: nn.Module, label: str) -> dict[str, float]:
    """Return a network's metrics on the test samples by their keys, the main one first."""
    with space.progress.task(label) as advance:
        found = evaluate(
            module, space.data.test(), space.task, dense=space.net.module, progress=advance
        )
    return {found.metric.key: found.value, **found.others}


def _repair(space: Workspace, dense: Network, small: fx.GraphModule, plan: Plan) -> None:
    options, seed = space.config.finetune, space.config.seed
    size = min(options.batch, options.repair)
    batches = space.data.train(size, augment=False, seed=seed, limit=options.repair)
    with space.progress.task("repair") as advance:
        repair(small, dense, plan, batches, task=space.task, progress=advance)


def _report_event(event: TuneEvent, advance: Callable[..., None]) -> None:
    parts = [f"epoch {event.epoch} of {event.epochs}"] if event.epochs else [event.kind]
    if event.kind in ("resume", "recalibrate", "evaluate"):
        parts.append(event.kind)
    if event.loss is not None:
        parts.append(f"loss {event.loss:.3f}")
    if event.metric is not None and event.test_value is not None:
        parts.append(f"test {event.metric.name} {event.metric.format(event.test_value)}")
    elif event.metric is not None and event.value is not None:
        parts.append(f"{event.metric.name} {event.metric.format(event.value)}")
    advance(event.step, event.steps or None, ", ".join(parts))
