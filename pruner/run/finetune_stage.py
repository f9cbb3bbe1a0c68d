"""Accuracy of a run's networks: the dense one, the cut one before and after fine-tuning."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import Batches
from ..structure import Plan
from ..surgery import apply, load, save
from ..tuning import History, TuneEvent, evaluate, finetune
from ..utils import digest_json, write_text
from . import run_folder as names
from .config import Config
from .context import Workspace

if TYPE_CHECKING:
    from torch import fx, nn

    from ..data import ImageData
    from ..structure import Network


# The cut network's accuracies so far, written last of what comes before the first epoch.
NOTE = "before.json"
# How often other processes look whether it is there.
POLL_S = 0.5


@dataclass(frozen=True)
class FewerImages:
    """The same data with at most that many training images."""

    data: ImageData
    images: int

    def train(self, batch: int = 128, *, limit: int | None = None, **options: Any) -> Batches:
        """As `ImageData.train`."""
        limit = self.images if limit is None else min(limit, self.images)
        return self.data.train(batch, limit=limit, **options)

    def test(self, batch: int = 256, **options: Any) -> Batches:
        """As `ImageData.test`: all of them."""
        return self.data.test(batch, **options)

    def fingerprint(self) -> str:
        """Tells this data set from another."""
        return digest_json([self.data.fingerprint(), self.images])


def dense_accuracy(space: Workspace) -> float:
    """The dense network's accuracy on the test images, evaluated once a RUN."""
    key = digest_json(space.data.fingerprint())
    known = space.base.finished("dense", key)
    if known is None:
        accuracy = _accuracy(space, space.net.module, "evaluate dense")
        space.base.commit("dense", key, lambda scratch: None, {"accuracy": accuracy})
        return accuracy
    return float(known["accuracy"])


def reference_accuracy(space: Workspace, config: Config) -> float:
    """Accuracy of the dense network after the very fine-tune that the pruned one gets."""
    key, folder = _reference(space, config)
    known = space.base.finished("reference", key)
    if known is not None:
        return float(known["accuracy"])
    module = copy.deepcopy(space.net.module)
    accuracy = _tuned(space, config, module, folder, "finetune dense")
    space.base.commit("reference", key, lambda scratch: None, {"accuracy": accuracy})
    return accuracy


def assist_reference(space: Workspace, config: Config) -> None:
    """Another process's part in `reference_accuracy`."""
    key, folder = _reference(space, config)
    if space.base.finished("reference", key) is None:
        _train(space, config, copy.deepcopy(space.net.module), folder, "finetune dense")


def _reference(space: Workspace, config: Config) -> tuple[str, Path]:
    key = digest_json([asdict(config.finetune), space.data.fingerprint(), config.seed])
    return key, space.base / names.CHECKPOINTS / f"reference-{key[:16]}"


def tune(
    space: Workspace, net: Network, dense: Network, config: Config, plan: Plan, folder: Path
) -> tuple[fx.GraphModule, dict[str, Any]]:
    """The network of a plan, repaired and tuned; its accuracy as cut, repaired, and at the end.

    net is what the plan cuts, with the weights of earlier rounds; dense, in the same basis (see
    `pruner.turned`), has the trained ones, whose values the repair aims at. folder keeps the
    checkpoint of an interrupted run, and what came before it.
    """
    small = apply(net, plan)
    note = folder / NOTE
    if not note.is_file():
        found = {"accuracy_before_finetune": _accuracy(space, small, "evaluate as cut")}
        if config.finetune.repair:
            _repair(space, dense, config, small, plan)
            found["accuracy_repaired"] = _accuracy(space, small, "evaluate repaired")
        save(small, None, folder)
        write_text(note, json.dumps(found))
    found = json.loads(note.read_text(encoding="utf-8"))
    small = load(folder)
    found["accuracy"] = _tuned(space, config, small, folder, "finetune")
    return small, found


def tune_round(
    space: Workspace,
    net: Network,
    dense: Network,
    config: Config,
    plan: Plan,
    folder: Path,
    label: str,
) -> fx.GraphModule:
    """The network of a plan, repaired and tuned for a round (``config.rounds``); see `tune`."""
    rounds, options = config.rounds, config.finetune
    small = apply(net, plan)
    if options.repair:
        _repair(space, dense, config, small, plan)
    short = replace(
        options, epochs=rounds.epochs, images=rounds.images or options.images, evaluate_every=0
    )
    _train(space, replace(config, finetune=short), small, folder, label)
    return small


def assist(space: Workspace, config: Config, folder: Path) -> None:
    """Another process's part in `tune`: to train what the first one has cut and repaired."""
    while not (folder / NOTE).is_file():
        time.sleep(POLL_S)
    _train(space, config, load(folder), folder, "finetune")


def _repair(
    space: Workspace, dense: Network, config: Config, small: fx.GraphModule, plan: Plan
) -> None:
    from ..reconstruction import repair

    options = config.finetune
    batches = space.data.train(
        min(options.batch, options.repair), augment=False, seed=config.seed, limit=options.repair
    )
    with space.progress.task("repair") as advance:
        repair(small, dense, plan, batches, progress=advance)


def _tuned(space: Workspace, config: Config, module: nn.Module, folder: Path, label: str) -> float:
    history = _train(space, config, module, folder, label)
    if history.accuracy is not None:
        return history.accuracy
    return _accuracy(space, module, "evaluate")


def _train(
    space: Workspace, config: Config, module: nn.Module, folder: Path, label: str
) -> History:
    options = config.finetune
    recipe = options.recipe
    if options.repair and not options.epochs:
        # A repair leaves batch-norm statistics right; few images would only blur them.
        recipe = replace(recipe, recalibrate=0)
    data: Any = space.data
    if options.images is not None:
        data = FewerImages(space.data, options.images)
    with space.progress.task(label) as advance:
        return finetune(
            module,
            space.net.module,
            data,
            options.epochs,
            recipe=recipe,
            out=folder,
            seed=config.seed,
            progress=_teller(advance),
        )


def _accuracy(space: Workspace, module: nn.Module, label: str) -> float:
    with space.progress.task(label) as advance:
        return evaluate(module, space.data.test(), progress=advance).accuracy


def _teller(advance: Callable[..., None]) -> Callable[[TuneEvent], None]:
    def tell(event: TuneEvent) -> None:
        parts = [f"epoch {event.epoch} of {event.epochs}"] if event.epochs else [event.kind]
        if event.kind in ("resume", "recalibrate", "evaluate"):
            parts.append(event.kind)
        if event.loss is not None:
            parts.append(f"loss {event.loss:.3f}")
        if event.test_accuracy is not None:
            parts.append(f"test accuracy {event.test_accuracy:.1%}")
        elif event.accuracy is not None:
            parts.append(f"accuracy {event.accuracy:.1%}")
        advance(event.step, event.steps or None, ", ".join(parts))

    return tell
