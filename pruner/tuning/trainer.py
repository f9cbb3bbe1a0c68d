"""finetune: a cut network learns again, from targets and the dense network; it may be killed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..data import TaskData
from ..graph import allow_single_values
from ..tasks import DEFAULT, Task
from ..utils import wrong_value
from .checkpoint import CHECKPOINT
from .companion import Companion
from .loop import TrainingLoop
from .recipe import Recipe
from .reporting import History, TuneEvent

if TYPE_CHECKING:
    from accelerate import Accelerator


def finetune(
    module: nn.Module,
    teacher: nn.Module | None,
    data: TaskData | None,
    epochs: int,
    *,
    task: Task | None = None, recipe: Recipe | None = None,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Callable[[TuneEvent], None] | None = None,
    checkpoint_s: float = 60.0,
    accelerator: Accelerator | None = None,
    steps: int | None = None, until: int | None = None, companion: Companion | None = None,
) -> History:  # fmt: skip
    """Tune module in place; it ends in evaluation mode, on the device that it came on.

    Args:
        module: The pruned network.
        teacher: The dense network, which is asked and not changed; None: labels only.
        data: Training and test samples; None: those of the task.
        epochs: Passes over the training samples; 0 only recalibrates.
        task: What the network is for (None: `pruner.tasks.DEFAULT`, labelled images).
        recipe: How to tune; the default suits a cut CNN.
        out: Folder of the checkpoint, written after every epoch and every checkpoint_s seconds.
            Where it holds one of this very run, the run continues from that step, and on one CPU
            thread it ends with the same bits as an undisturbed one. It stays when the run is over:
            the same call then returns at once. None: no checkpoint.
        seed: Fixes the order of the samples, their augmentation, and dropout.
        progress: Is told what goes on, see `TuneEvent`; in one process of many only.
        checkpoint_s: Seconds between checkpoints within an epoch.
        accelerator: By default one for the environment that `accelerate launch` made, or for this
            process on its GPU or CPU.
        steps: Optimizer steps in all, which take the place of epochs.
        until: The step, counted from 0, before which to stop as if interrupted: the same call goes
            on from there where ``out`` holds the checkpoint.
        companion: Sees every step, and may change the network between them.

    Raises:
        PrunerError: The checkpoint is damaged or of another run, outputs and targets do not fit, a
            batch is empty, or the loss is no longer finite.
    """
    if epochs < 0:
        raise wrong_value("epochs", "0 or more", epochs)
    if accelerator is None:
        from accelerate import Accelerator

        accelerator = Accelerator()
    task = task or DEFAULT()
    task = task if data is None else task.with_data(data)
    path = None if out is None else Path(out) / CHECKPOINT
    with _keep_place(accelerator, module, teacher):
        loop = TrainingLoop(
            module, teacher, task, epochs, recipe or Recipe(), seed, accelerator, progress,
            steps, companion,
        )  # fmt: skip
        loop.start(path)
        loop.train(path, checkpoint_s, until)
    return loop.summarize()


@contextmanager
def _keep_place(
    accelerator: Accelerator, module: nn.Module, teacher: nn.Module | None
) -> Iterator[None]:
    """Leave the caller's random numbers alone, and put networks back to where they came from."""
    homes = {m: next(m.parameters()).device for m in (module, teacher) if m is not None}
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices), allow_single_values(module):
        try:
            yield
        finally:
            module.eval()
            for network, device in homes.items():  # files hold the contiguous layout only
                network.to(device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
