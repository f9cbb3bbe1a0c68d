"""TrainingLoop: the optimizer steps of one tuning run, which may be killed and continued."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..data import TaskData
from ..errors import PrunerError
from ..utils import derive_seed
from .attention_transfer import find_shared_maps
from .bn_recalibration import recalibrate
from .checkpoint import Checkpoint, TrainingState, digest
from .ema import build_average, use_average
from .evaluate import Evaluation, evaluate
from .loss import TuningLoss
from .recipe import Recipe
from .reporting import EpochResult, History, Reporter, TuneEvent

if TYPE_CHECKING:
    from accelerate import Accelerator


class TrainingLoop:
    """One tuning run, in one of its processes; see `pruner.tuning.finetune` for the arguments."""

    def __init__(
        self, module: nn.Module, teacher: nn.Module | None, data: TaskData, epochs: int,
        recipe: Recipe, seed: int, accelerator: Accelerator,
        progress: Callable[[TuneEvent], None] | None,
    ) -> None:  # fmt: skip
        self.module, self.data, self.epochs = module, data, epochs
        self.recipe, self.seed, self.accelerator = recipe, seed, accelerator
        self.device = accelerator.device
        self.shard = (accelerator.process_index, accelerator.num_processes)
        self.loader = data.train(recipe.batch, augment=True, seed=seed, shard=self.shard)
        self.identity: dict[str, Any] = {
            "network": digest(module),
            "teacher": digest(teacher) if recipe.distill or recipe.attention else "",
            "data": data.fingerprint(), "epochs": epochs, "seed": seed,
            **{f"recipe.{k}": v for k, v in asdict(recipe).items()},
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
            _build_optimizer(module, recipe),
            torch.amp.GradScaler(self.device.type, enabled=scaled),
            build_average(module, recipe.ema) if recipe.ema else None,
            # MPS knows no float64.
            torch.zeros(3, dtype=torch.float32 if self.device.type == "mps" else torch.float64)
            .to(self.device),
        )  # fmt: skip
        maps = {}
        if teacher is not None and recipe.attention:
            images, _ = next(iter(data.train(2, augment=False, seed=seed, limit=2)))
            maps = find_shared_maps(module, teacher, images.to(self.device))
        self.loss = TuningLoss(recipe, teacher, maps, self._autocast)
        self.network: nn.Module = accelerator.prepare_model(self.loss.extend(module))
        self.steps = epochs * len(self.loader)
        callback = progress if accelerator.is_main_process else None
        self.reporter = Reporter(callback, epochs, self.steps)

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
                self.module, self.data.train(batch, augment=False, seed=self.seed, limit=images)
            )
            if self.state.average is not None:
                self.state.average.module.load_state_dict(self.module.state_dict())

    def train(self, path: Path | None, checkpoint_s: float) -> None:
        """Take all steps that are left, epoch by epoch, and end with the averaged weights."""
        state, length = self.state, len(self.loader)
        # After the last step of an epoch its sums are still to be told: the epoch is not closed.
        while len(state.results) < self.epochs:
            epoch = len(state.results)
            saved_s = time.perf_counter()
            for inputs, labels in self.loader.epoch(epoch, state.step - epoch * length):
                self._step(inputs, labels)
                self._report("step")
                late = time.perf_counter() - saved_s >= checkpoint_s
                if self._decide_together(late) and state.step % length:
                    self._check_finite()
                    self._save(path)
                    saved_s = time.perf_counter()
            self._check_finite()
            self._close_epoch()
            self._save(path)
            self._report("epoch")
        if state.average is not None and self.epochs:
            self.module.load_state_dict(state.average.module.state_dict())
        self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)

    def summarize(self) -> History:
        """Return what has happened so far."""
        state, reporter = self.state, self.reporter
        return History(tuple(state.results), state.step, reporter.seconds, reporter.resumed_at)

    def _step(self, inputs: Tensor, labels: Tensor) -> None:
        recipe, state = self.recipe, self.state
        # Seeded by the step's number: a resumed run needs no generator state.
        torch.manual_seed(derive_seed("step", self.seed, state.step, self.shard[0]))
        for group in state.optimizer.param_groups:
            group["lr"] = recipe.lr_at(state.step, self.steps, len(self.loader))
        self.network.train()
        parts = min(recipe.accumulate, len(labels))
        pairs = list(zip(inputs.chunk(parts), labels.chunk(parts), strict=True))
        for k, (x, y) in enumerate(pairs):
            last = k == len(pairs) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.network):
                self._backward(x, y, len(y) / len(labels))
        state.scaler.unscale_(state.optimizer)
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), recipe.clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        if state.average is not None:
            state.average.update_parameters(self.module)
        state.step += 1

    def _backward(self, inputs: Tensor, labels: Tensor, share: float) -> None:
        """Add the gradients of a part of the batch, weighted by its share of the images."""
        inputs = inputs.to(self.device, non_blocking=True, memory_format=self.layout)
        labels = labels.to(self.device, non_blocking=True)
        loss, outputs = self.loss.compute(self.network, inputs, labels)
        self.state.scaler.scale(loss * share).backward()
        with torch.no_grad():
            correct = (outputs.argmax(1) == labels).sum()
            means = torch.stack([torch.ones_like(loss), correct / len(labels), loss.detach()])
            self.state.sums += means.to(self.state.sums.dtype) * len(labels)

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
                reduce = self.accelerator.reduce if self.shard[1] > 1 else None
                found = evaluate(self.module, batches, reduce=reduce)
        images, correct, loss = self.accelerator.reduce(state.sums).tolist()
        seconds = self.reporter.seconds
        state.results.append(
            EpochResult(
                epoch, loss / images, correct / images,
                self.recipe.lr_at(state.step - 1, self.steps, len(self.loader)),
                seconds - state.epoch_began_s,
                found.accuracy if found else None, found.loss if found else None,
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


def _build_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Build a recipe's optimizer; vectors and scalars (norms, biases) are not decayed."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, recipe.peak_lr, betas=(recipe.momentum, 0.999))
    return torch.optim.SGD(groups, recipe.peak_lr, recipe.momentum, nesterov=recipe.momentum > 0)
