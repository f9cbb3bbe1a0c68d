"""finetune: a cut network learns again from labels and the dense network; it may be killed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import PrunerError
from ..graph import extract_logits
from ..utils import derive_seed
from .attention_transfer import attention_loss, shared_maps, with_values
from .bn_recalibration import recalibrate
from .checkpoint import Checkpoint, digest, flatten_optimizer, prefixed, restore_optimizer
from .distillation import distillation
from .ema import Average
from .evaluate import Evaluation, evaluate
from .history import EpochResult, History, TuneEvent
from .mixup import draw_mixture
from .recipe import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator

CHECKPOINT = "checkpoint.safetensors"
_TELL_EVERY_S = 0.25


class EpochBatches(Protocol):
    """Batches whose order the epoch's number fixes; see `pruner.batches.Batches`."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...
    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]: ...


class TuningData(Protocol):
    """Training and test batches; `pruner.data.ImageData` is one."""

    def train(
        self,
        batch: int = ...,
        *,
        augment: bool = ...,
        seed: int = ...,
        limit: int | None = ...,
        shard: tuple[int, int] = ...,
    ) -> EpochBatches: ...
    def test(self, batch: int = ..., *, shard: tuple[int, int] = ...) -> EpochBatches: ...
    def fingerprint(self) -> str: ...


def finetune(
    module: nn.Module,
    teacher: nn.Module | None,
    data: TuningData,
    epochs: int,
    *,
    recipe: Recipe | None = None,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Callable[[TuneEvent], None] | None = None,
    checkpoint_s: float = 60.0,
    accelerator: Accelerator | None = None,
) -> History:
    """Tune module in place; it ends in evaluation mode, on the device that it came on.

    module
        The pruned network, a classifier: [n, 3, H, W] to logits [n, classes].
    teacher
        The dense network, which is asked and not changed; None: labels only.
    epochs
        Passes over the training images; 0 only recalibrates.
    recipe
        How to tune; the default suits a cut CNN.
    out
        Folder of the checkpoint, written after every epoch and every checkpoint_s seconds. Where it
        holds one of this very run, the run continues from that step, and on one CPU thread it ends
        with the same bits as an undisturbed one. It stays when the run is over: the same call then
        returns at once. None: no checkpoint.
    seed
        Fixes the order of the images, their augmentation, and dropout.
    progress
        Is told what goes on, see `TuneEvent`; in one process of many only.
    accelerator
        An `accelerate.Accelerator`; by default one for the environment that `accelerate launch`
        made, or for this process on its GPU or CPU.

    Raises PrunerError where the checkpoint is damaged or of another run, where outputs and classes
    do not fit, and where the loss is no longer finite.
    """
    if epochs < 0:
        raise PrunerError(f"epochs: expected 0 or more, got {epochs}")
    if accelerator is None:
        from accelerate import Accelerator

        accelerator = Accelerator()
    home = next(module.parameters()).device
    taught_home = next(teacher.parameters()).device if teacher is not None else home
    run = _Run(module, teacher, data, epochs, recipe or Recipe(), seed, accelerator, progress)
    path = None if out is None else Path(out) / CHECKPOINT
    # Within this context the caller's random numbers are not disturbed.
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        try:
            run.start(path)
            run.train(path, checkpoint_s)
        finally:
            module.eval()
            _settle(module, home)
            if teacher is not None:
                _settle(teacher, taught_home)
    return run.history()


class _Run:
    """One tuning run; what changes over it are step, sums, results and the networks' states."""

    def __init__(
        self,
        module: nn.Module,
        teacher: nn.Module | None,
        data: TuningData,
        epochs: int,
        recipe: Recipe,
        seed: int,
        accelerator: Accelerator,
        progress: Callable[[TuneEvent], None] | None,
    ) -> None:
        self.module, self.teacher, self.recipe, self.seed = module, teacher, recipe, seed
        self.accelerator, self.epochs = accelerator, epochs
        self.progress = progress if accelerator.is_main_process else None
        shard = (accelerator.process_index, accelerator.num_processes)
        self.loader = data.train(recipe.batch, augment=True, seed=seed, shard=shard)
        self.data, self.shard = data, shard
        self.identity: dict[str, Any] = {
            "network": digest(module),
            "teacher": digest(teacher) if recipe.distill or recipe.attention else "",
            "data": data.fingerprint(),
            "epochs": epochs,
            "seed": seed,
            **{f"recipe.{k}": v for k, v in asdict(recipe).items()},
        }
        self.device = accelerator.device
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.layout = layout
        module.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        if teacher is not None:
            teacher.to(self.device, memory_format=layout)  # type: ignore[call-overload]
            teacher.eval()
        self.optimizer = _optimizer(module, recipe)
        configured = str(accelerator.mixed_precision)
        self.amp = configured if recipe.amp == "no" else recipe.amp
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.amp == "fp16" and self.device.type == "cuda"
        )
        self.average = Average(module, recipe.ema) if recipe.ema else None
        self.maps = self._maps()
        self.asked = self._with_maps(teacher) if teacher is not None else None
        self.wrapped: nn.Module = accelerator.prepare_model(self._with_maps(module))
        self.step = 0
        self.resumed_at: int | None = None
        self.steps = epochs * len(self.loader)
        self.results: list[EpochResult] = []
        self.spent_s, self.epoch_began_s, self.resume_mark = 0.0, 0.0, 0.0
        # Of this epoch, in this process: images, right ones, loss times images.
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        self.sums = torch.zeros(3, dtype=kind, device=self.device)
        self.clock = time.perf_counter()
        self.told = 0.0

    def _maps(self) -> dict[str, int]:
        """Where attention is compared; nowhere if it is not."""
        if self.teacher is None or not self.recipe.attention:
            return {}
        batches = self.data.train(2, augment=False, seed=self.seed, limit=2)
        images, _ = next(iter(batches))
        return shared_maps(self.module, self.teacher, images.to(self.device))

    def _with_maps(self, module: nn.Module) -> nn.Module:
        return with_values(module, tuple(self.maps)) if self.maps else module  # type: ignore[arg-type]

    def _parted(self, results: Any) -> tuple[Tensor, Sequence[Tensor]]:
        """Class scores, and the values at which attention is compared."""
        results, values = results if self.maps else (results, ())
        return extract_logits(results), values

    # -- start -------------------------------------------------------------------------------

    def start(self, path: Path | None) -> None:
        """Continue from the checkpoint, or recalibrate and begin."""
        if path is not None and path.is_file():
            self._restore(path)
            self._tell("resume")
            return
        if self.recipe.recalibrate:
            self._tell("recalibrate")
            # Every process uses the same images, so that all start from the same statistics.
            batches = self.data.train(
                min(self.recipe.batch, self.recipe.recalibrate),
                augment=False,
                seed=self.seed,
                limit=self.recipe.recalibrate,
            )
            recalibrate(self.module, batches)
            if self.average is not None:
                self.average = Average(self.module, self.recipe.ema)

    def _restore(self, path: Path) -> None:
        saved = Checkpoint.load(path)
        saved.check(self.identity, path)
        self.module.load_state_dict(saved.part("module"))
        restore_optimizer(self.optimizer, saved.part("optimizer"), saved.notes["optimizer"])
        self.scaler.load_state_dict(saved.notes["scaler"])
        if self.average is not None:
            self.average.load(saved.part("average"))
        if self.accelerator.is_main_process:  # the sums of all processes are in it
            self.sums.copy_(saved.tensors["sums"])
        self.results = [EpochResult(**result) for result in saved.notes["results"]]
        self.spent_s = self.resume_mark = saved.notes["spent_s"]
        self.epoch_began_s = saved.notes["epoch_began_s"]
        self.step = self.resumed_at = saved.step

    def _save(self, path: Path | None) -> None:
        sums = self.accelerator.reduce(self.sums) if self.shard[1] > 1 else self.sums
        if path is None or not self.accelerator.is_main_process:
            return
        tensors, numbers = flatten_optimizer(self.optimizer)
        average = self.average.state if self.average is not None else {}
        Checkpoint(
            self.identity,
            self.step,
            {
                **prefixed("module", self.module.state_dict()),
                **prefixed("optimizer", tensors),
                **prefixed("average", average),
                "sums": sums,
            },
            {
                "optimizer": numbers,
                "scaler": self.scaler.state_dict(),
                "results": [asdict(result) for result in self.results],
                "spent_s": self._seconds(),
                "epoch_began_s": self.epoch_began_s,
            },
        ).save(path)

    # -- training ----------------------------------------------------------------------------

    def train(self, path: Path | None, checkpoint_s: float) -> None:
        """All steps that are left, epoch by epoch."""
        length = len(self.loader)
        # After the last step of an epoch its sums are still to be told: the epoch is not closed.
        while len(self.results) < self.epochs:
            epoch = len(self.results)
            saved_s = time.perf_counter()
            for inputs, labels in self.loader.epoch(epoch, self.step - epoch * length):
                self._step(inputs, labels)
                now = time.perf_counter()
                if now - self.told >= _TELL_EVERY_S:
                    self._tell("step")
                if self._all_agree(now - saved_s >= checkpoint_s) and self.step % length:
                    self._check_finite()
                    self._save(path)
                    saved_s = time.perf_counter()
            self._check_finite()
            self._close_epoch()
            self._save(path)
            self._tell("epoch")
        if self.average is not None and self.epochs:
            self.average.swap(self.module)
        self.accelerator.unwrap_model(self.wrapped, keep_fp32_wrapper=False)

    def _step(self, inputs: Tensor, labels: Tensor) -> None:
        recipe = self.recipe
        # Drawn anew from the step's number: a resumed run needs no generator state.
        torch.manual_seed(derive_seed("step", self.seed, self.step, self.shard[0]))
        rate = recipe.lr_at(self.step, self.steps, len(self.loader))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.wrapped.train()
        parts = min(recipe.accumulate, len(labels))
        pairs = list(zip(inputs.chunk(parts), labels.chunk(parts), strict=True))
        for k, (x, y) in enumerate(pairs):
            last = k == len(pairs) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                self._backward(x, y, len(y) / len(labels))
        self.scaler.unscale_(self.optimizer)
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), recipe.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.module, self.step)
        self.step += 1

    def _backward(self, inputs: Tensor, labels: Tensor, share: float) -> None:
        inputs = inputs.to(self.device, non_blocking=True, memory_format=self.layout)
        labels = labels.to(self.device, non_blocking=True)
        mixture = None
        if self.recipe.mixup:
            mixture = draw_mixture(len(labels), self.recipe.mixup, self.device)
            inputs = mixture.images(inputs)
        taught = None
        seen: Sequence[Tensor] = ()
        with self._arithmetic():
            if self.asked is not None and (self.recipe.distill or self.maps):
                with torch.no_grad():
                    taught, seen = self._parted(self.asked(inputs))
            outputs, values = self._parted(self.wrapped(inputs))
        if outputs.ndim != 2 or (taught is not None and taught.shape != outputs.shape):
            raise PrunerError(
                f"finetune: expected logits [n, classes] alike, got {tuple(outputs.shape)} from the"
                f" network and {None if taught is None else tuple(taught.shape)} from its teacher"
            )
        wanted = labels if mixture is None else mixture.labels(labels, outputs.shape[1])
        loss = distillation(outputs, taught, wanted, self.recipe)
        if self.maps:
            axes = tuple(self.maps.values())
            loss = loss + self.recipe.attention * attention_loss(values, seen, axes)
        self.scaler.scale(loss * share).backward()
        with torch.no_grad():
            right = (outputs.argmax(1) == labels).sum()
            told = torch.stack([torch.ones_like(loss), right / len(labels), loss.detach()])
            self.sums += told.to(self.sums.dtype) * len(labels)

    def _arithmetic(self) -> Any:
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        if self.amp not in kinds:
            return nullcontext()
        return torch.autocast(self.device.type, kinds[self.amp])

    def _close_epoch(self) -> None:
        epoch, length = len(self.results), len(self.loader)
        every = self.recipe.evaluate_every
        self._agree()
        result: Evaluation | None = None
        if every and ((epoch + 1) % every == 0 or epoch + 1 == self.epochs):
            self._tell("evaluate")
            result = self._evaluate()
        images, right, loss = self._total().tolist()
        seconds = self._seconds()
        self.results.append(
            EpochResult(
                epoch + 1,
                loss / images,
                right / images,
                self.recipe.lr_at(self.step - 1, self.steps, length),
                seconds - self.epoch_began_s,
                result.accuracy if result else None,
                result.loss if result else None,
            )
        )
        self.epoch_began_s = seconds
        self.sums.zero_()

    def _evaluate(self) -> Evaluation:
        batches = self.data.test(shard=self.shard)
        context = self.average.applied(self.module) if self.average is not None else nullcontext()
        with context:
            total = self.accelerator.reduce if self.shard[1] > 1 else None
            return evaluate(self.module, batches, reduce=total)

    # -- what goes on ------------------------------------------------------------------------

    def _total(self) -> Tensor:
        return self.accelerator.reduce(self.sums) if self.shard[1] > 1 else self.sums

    def _agree(self) -> None:
        """Each process keeps statistics, and averages of them; those of the first one count."""
        if self.shard[1] == 1:
            return
        from accelerate.utils import broadcast

        average = self.average.state.values() if self.average is not None else ()
        for value in (*self.module.buffers(), *average):
            value.copy_(broadcast(value))

    def _all_agree(self, wish: bool) -> bool:
        """The first process decides, since saving needs all of them."""
        if self.shard[1] == 1:
            return wish
        from accelerate.utils import broadcast

        return bool(broadcast(torch.tensor([wish], dtype=torch.int32, device=self.device)).item())

    def _check_finite(self) -> None:
        if not torch.isfinite(self.sums[2]):
            raise PrunerError(
                f"finetune: the loss is no longer finite at step {self.step} of {self.steps}; "
                f"lower lr (it is {self.recipe.peak_lr:g}), or set clip"
            )

    def _seconds(self) -> float:
        return self.spent_s + time.perf_counter() - self.clock

    def _tell(self, kind: str) -> None:
        self.told = time.perf_counter()
        if self.progress is None:
            return
        images, right, loss = self.sums.tolist()
        last = self.results[-1] if kind == "epoch" else None
        fresh = self.step - (self.resumed_at or 0)
        pace = (self._seconds() - self.resume_mark) / fresh if fresh else None
        self.progress(
            TuneEvent(
                kind,
                len(self.results) if last else min(len(self.results) + 1, self.epochs),
                self.epochs,
                self.step,
                self.steps,
                last.loss if last else loss / images if images else None,
                last.accuracy if last else right / images if images else None,
                self._seconds(),
                None if pace is None else pace * (self.steps - self.step),
                last.test_accuracy if last else None,
            )
        )

    def history(self) -> History:
        """What happened, so far."""
        return History(tuple(self.results), self.step, self._seconds(), self.resumed_at)


def _settle(module: nn.Module, device: torch.device) -> None:
    """Back to a device and to the plain memory layout, the one that files can hold."""
    module.to(device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Vectors and scalars (norms, biases) are not decayed."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, recipe.peak_lr, betas=(recipe.momentum, 0.999))
    return torch.optim.SGD(groups, recipe.peak_lr, recipe.momentum, nesterov=recipe.momentum > 0)
