"""TrainingLoop: the optimizer steps of one tuning run, which may be killed and continued."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ..data import Batch, count_samples, require_samples, split_batch
from ..errors import PrunerError
from ..graph import flatten_arguments, move_to_device
from ..tasks import Task
from ..utils import derive_seed
from .attention_transfer import find_shared_maps
from .bn_recalibration import recalibrate
from .checkpoint import Checkpoint, TrainingState, digest
from .companion import Companion
from .ema import build_average, use_average
from .evaluate import Evaluation, evaluate
from .loss import TuningLoss
from .recipe import Recipe
from .reporting import EpochResult, History, Reporter, TuneEvent

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECKED = 8
"""Steps whose targets are held against the outputs: several data sets may take turns."""


class TrainingLoop:
    """One tuning run, in one of its processes; see `pruner.tuning.finetune` for the arguments."""

    def __init__(
        self, module: nn.Module, teacher: nn.Module | None, task: Task, epochs: int,
        recipe: Recipe, seed: int, accelerator: Accelerator,
        progress: Callable[[TuneEvent], None] | None,
        steps: int | None = None, companion: Companion | None = None,
    ) -> None:  # fmt: skip
        self.module, self.teacher, self.task, self.epochs = module, teacher, task, epochs
        self.data = data = task.require_data()
        self.recipe, self.seed, self.accelerator = recipe, seed, accelerator
        self.device = accelerator.device
        self.shard = (accelerator.process_index, accelerator.num_processes)
        self.loader = data.train(recipe.batch, augment=True, seed=seed, shard=self.shard)
        _check_batches(self.loader, task)
        self.companion = companion
        if steps is not None:
            self.epochs = epochs = -(-steps // len(self.loader))
        self.identity: dict[str, Any] = {
            "network": digest(module),
            "teacher": digest(teacher) if recipe.distill or recipe.attention else "",
            "data": task.fingerprint(), "epochs": epochs, "seed": seed,
            **{f"recipe.{k}": v for k, v in asdict(recipe).items()},
            **({} if steps is None else {"steps": steps}),
            **({} if companion is None else companion.identity),
        }  # fmt: skip
        self.layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        module.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
        if teacher is not None:
            teacher.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
            teacher.eval()
        amp = str(accelerator.mixed_precision) if recipe.amp == "no" else recipe.amp
        scaled = amp == "fp16" and self.device.type == "cuda"
        self.state = TrainingState(
            module,
            _build_optimizer(module, recipe, () if companion is None else companion.untrained),
            torch.amp.GradScaler(self.device.type, enabled=scaled),
            build_average(module, recipe.ema) if recipe.ema else None,
            # MPS knows no float64.
            torch.zeros(3, dtype=torch.float32 if self.device.type == "mps" else torch.float64)
            .to(self.device),
            companion,
        )  # fmt: skip
        maps = self._find_maps() if teacher is not None and recipe.attention else {}
        self.loss = TuningLoss(task, recipe, module, teacher, maps, self._autocast)
        self.network: nn.Module = accelerator.prepare_model(self.loss.network)
        metric = task.judge()
        self.metric = metric.running
        self.steps = epochs * len(self.loader) if steps is None else steps
        callback = progress if accelerator.is_main_process else None
        self.reporter = Reporter(callback, epochs, self.steps, metric.kind, self.metric is not None)

    def _find_maps(self) -> dict[str, int]:
        """Find where attention is compared, on the arguments of a call with two samples."""
        assert isinstance(self.teacher, nn.Module)
        inputs, _ = next(iter(self.data.train(2, augment=False, seed=self.seed, limit=2)))
        args, kwargs = self.task.list_calls(self.teacher, self._move(inputs))[0]
        plain = isinstance(self.teacher, fx.GraphModule)
        example = flatten_arguments(self.teacher, args, kwargs) if plain else args  # type: ignore[arg-type]
        return find_shared_maps(self.module, self.teacher, example)

    def start(self, path: Path | None) -> None:
        """Continue from the checkpoint, or recalibrate and begin."""
        if path is not None and path.is_file():
            saved = Checkpoint.load(path)
            saved.check(self.identity, path)
            self.state.restore(saved)
            if self.accelerator.is_main_process:  # the sums of all processes are in it
                self.state.sums.copy_(saved.tensors["sums"])
            self.reporter.resume(saved.step, saved.notes["spent_s"])
            self._report("resume")
        elif images := self.recipe.recalibrate:
            self._report("recalibrate")
            # Every process uses the same images, so that all start from the same statistics.
            batch = min(self.recipe.batch, images)
            recalibrate(
                self.module,
                self.data.train(batch, augment=False, seed=self.seed, limit=images),
                self.task,
            )
            if self.state.average is not None:
                self.state.average.module.load_state_dict(self.module.state_dict())

    def train(self, path: Path | None, checkpoint_s: float, until: int | None = None) -> None:
        """Take all steps that are left, epoch by epoch, and end with the averaged weights.

        Where it is to stop before a step, that is like an interruption there.
        """
        state, length = self.state, len(self.loader)
        # After the last step of an epoch its sums are still to be told: the epoch is not closed.
        while len(state.results) < self.epochs:
            epoch = len(state.results)
            saved_s = time.perf_counter()
            end = min((epoch + 1) * length, self.steps)
            left = (end if until is None else min(end, until)) - state.step
            batches = self.loader.epoch(epoch, state.step - epoch * length)
            for batch in islice(batches, max(left, 0)):
                self._step(batch)
                self._report("step")
                late = time.perf_counter() - saved_s >= checkpoint_s
                if self._decide_together(late) and state.step % length:
                    self._check_finite()
                    self._save(path)
                    saved_s = time.perf_counter()
            self._check_finite()
            if state.step < end:
                self._save(path)
                break
            self._close_epoch()
            self._save(path)
            self._report("epoch")
        if state.average is not None and self.epochs:
            self.module.load_state_dict(state.average.module.state_dict())
        self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)

    def summarize(self) -> History:
        """Return what has happened so far."""
        state, reporter = self.state, self.reporter
        return History(
            tuple(state.results), state.step, reporter.seconds, reporter.resumed_at,
            reporter.metric,
        )  # fmt: skip

    def _step(self, batch: Batch) -> None:
        recipe, state = self.recipe, self.state
        if self.companion is not None:
            self.companion.before_step(state.step)
        # Seeded by the step's number: a resumed run needs no generator state.
        torch.manual_seed(derive_seed("step", self.seed, state.step, self.shard[0]))
        for group in state.optimizer.param_groups:
            group["lr"] = recipe.lr_at(state.step, self.steps, len(self.loader))
        self.network.train()
        samples = require_samples(
            batch, f"finetune: the batch of step {state.step + 1} of {self.steps}"
        )
        parts = split_batch(batch, recipe.accumulate)
        for k, part in enumerate(parts):
            last = k == len(parts) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.network):
                self._backward(part, count_samples(part[0]), samples)
        state.scaler.unscale_(state.optimizer)
        if self.companion is not None:
            self.companion.after_backward(state.scaler.get_scale())
        if recipe.clip is not None:
            trained = [p for group in state.optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(trained, recipe.clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        if self.companion is not None:
            self.companion.after_step()
        if state.average is not None:
            state.average.update_parameters(self.module)
        state.step += 1

    def _backward(self, part: Batch, count: int, samples: int) -> None:
        """Add the gradients of a part of the batch, weighted by its share of the samples."""
        inputs, targets = self._move(part[0]), move_to_device(part[1], self.device)
        loss, outputs = self.loss.compute(self.network, inputs, targets)
        if self.state.step < CHECKED and not self.recipe.mixup:
            self.task.check(outputs, targets)
        self.state.scaler.scale(loss * (count / samples)).backward()
        with torch.no_grad():
            figure = torch.zeros_like(loss)
            if self.metric is not None:
                values = self.metric.measure(outputs, targets)
                figure = (values.sum() / max(values.numel(), 1)).to(loss.device)
            means = torch.stack([torch.ones_like(loss), figure, loss.detach()])
            self.state.sums += means.to(self.state.sums.dtype) * count

    def _move(self, inputs: Any) -> Any:
        """Return inputs on the device, maps [n, channels, H, W] in the recipe's layout."""

        def move(x: Tensor) -> Tensor:
            layout = self.layout if x.ndim == 4 else torch.contiguous_format
            return x.to(self.device, non_blocking=True, memory_format=layout)

        return pytree.tree_map_only(Tensor, move, inputs)

    def _autocast(self) -> AbstractContextManager[Any]:
        """Compute in the recipe's type, or in the one that accelerate was configured for.

        accelerate knows one type a process, while recipes differ from run to run.
        """
        if self.recipe.amp == "no":
            return self.accelerator.autocast()
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        return torch.autocast(self.device.type, kinds[self.recipe.amp])

    def _close_epoch(self) -> None:
        state, every, epoch = self.state, self.recipe.evaluate_every, len(self.state.results) + 1
        self._share_statistics()
        found: Evaluation | None = None
        if every and (epoch % every == 0 or epoch == self.epochs):
            self._report("evaluate")
            with use_average(self.module, state.average):
                batches = self.data.test(shard=self.shard)
                gather = _gather_objects if self.shard[1] > 1 else None
                found = evaluate(self.module, batches, self.task, dense=self.teacher, gather=gather)
        samples, figures, loss = self.accelerator.reduce(state.sums).tolist()
        seconds = self.reporter.seconds
        state.results.append(
            EpochResult(
                epoch, loss / samples, figures / samples if self.metric is not None else None,
                self.recipe.lr_at(state.step - 1, self.steps, len(self.loader)),
                seconds - state.epoch_began_s,
                found.value if found else None, found.loss if found else None,
                dict(found.others) if found and found.others else None,
            )
        )  # fmt: skip
        state.epoch_began_s = seconds
        state.sums.zero_()

    def _save(self, path: Path | None) -> None:
        sums = self.accelerator.reduce(self.state.sums)
        if path is not None and self.accelerator.is_main_process:
            self.state.capture(self.identity, sums, self.reporter.seconds).save(path)

    def _share_statistics(self) -> None:
        """Give every process the first one's statistics and averages, which each keeps itself."""
        from accelerate.utils import broadcast

        average = self.state.average
        averages = average.module.state_dict().values() if average is not None else ()
        for value in (*self.module.buffers(), *averages):
            value.copy_(broadcast(value))

    def _decide_together(self, wish: bool) -> bool:
        """Return the first process's wish, since saving needs all of them."""
        if self.shard[1] == 1:
            return wish
        from accelerate.utils import broadcast

        return bool(broadcast(torch.tensor([wish], dtype=torch.int32, device=self.device)).item())

    def _check_finite(self) -> None:
        if not torch.isfinite(self.state.sums[2]):
            raise PrunerError(
                f"finetune: the loss is no longer finite at step {self.state.step} of {self.steps};"
                f" lower lr (it is {self.recipe.peak_lr:g}), or set clip"
            )

    def _report(self, kind: str) -> None:
        self.reporter.report(kind, self.state.step, self.state.sums, self.state.results)


def _check_batches(loader: Any, task: Task) -> None:
    """Refuse batches whose number or order is not known, and none at all."""
    if not isinstance(loader, Sized) or not callable(getattr(loader, "epoch", None)):
        raise PrunerError(
            f"finetune: the data of task {task.name!r} trains on a {type(loader).__name__}, "
            "expected batches with __len__ and epoch(number, start): pruner.data.wrap_datasets "
            "makes them of data sets and iterables"
        )
    if not len(loader):
        raise PrunerError(f"finetune: the data of task {task.name!r} has no batch to train on")


def _gather_objects(value: Any) -> list[Any]:
    """Return what every process calls this with, in their order."""
    from accelerate.utils import gather_object

    return list(gather_object([value]))


def _build_optimizer(
    module: nn.Module, recipe: Recipe, untrained: Sequence[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Build a recipe's optimizer; vectors and scalars (norms, biases) are not decayed."""
    others = {id(p) for p in untrained}
    trained = [p for p in module.parameters() if p.requires_grad and id(p) not in others]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, recipe.peak_lr, betas=(recipe.momentum, 0.999))
    return torch.optim.SGD(groups, recipe.peak_lr, recipe.momentum, nesterov=recipe.momentum > 0)
