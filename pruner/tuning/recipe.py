"""Recipe: how a network is tuned, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import PrunerError


@dataclass(frozen=True)
class Recipe:
    """Settings of `finetune`; every one has a default that suits a cut CNN.

    batch
        Images an optimizer step, over all processes.
    accumulate
        The batch is sent through in that many parts (memory shrinks; batch norms see a part).
    optimizer
        ``"sgd"`` (Nesterov momentum) or ``"adamw"``.
    lr
        Peak learning rate, as it is: not scaled by batch or processes. None: 0.02 for SGD, 5e-4 for
        AdamW.
    momentum, weight_decay
        Of the optimizer; batch norms, biases and other vectors are not decayed.
    warmup
        Epochs over which the rate grows linearly from 0; then it falls to 0 by a half cosine.
    distill, temperature
        Share of the loss that comes from the teacher (0: labels only), and the softness of its
        answers; see `distillation`.
    attention
        Weight of an added term: how differently the network and its teacher look at the image; see
        `pruner.attention`. 0: off.
    label_smoothing
        Of the labels' share of the loss.
    mixup
        Images are mixed two by two by Beta(mixup, mixup), their labels likewise; see
        `pruner.mixup`. 0: off.
    ema
        What a step keeps of an exponential moving average of the weights, which then is the result;
        0: off.
    clip
        Largest norm of the gradient, or None.
    amp
        ``"no"``, ``"bf16"`` or ``"fp16"``: type of the forward pass's arithmetic; with ``"no"``,
        what `accelerate` was configured for.
    channels_last
        Memory layout of the weights and images.
    recalibrate
        Images on which batch-norm statistics are estimated before the first epoch; 0: off.
    evaluate_every
        Epochs between evaluations on the test images (the last is always evaluated); 0: never.
    """

    batch: int = 128
    accumulate: int = 1
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup: float = 0.5
    distill: float = 0.5
    temperature: float = 4.0
    attention: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    ema: float = 0.0
    clip: float | None = None
    amp: str = "no"
    channels_last: bool = True
    recalibrate: int = 2048
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        checks: list[tuple[str, bool, str]] = [
            ("batch", self.batch >= 1, "at least 1"),
            ("accumulate", 1 <= self.accumulate <= self.batch, "between 1 and batch"),
            ("optimizer", self.optimizer in ("sgd", "adamw"), "'sgd' or 'adamw'"),
            ("lr", self.lr is None or self.lr > 0, "above 0"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("warmup", self.warmup >= 0, "0 or more epochs"),
            ("distill", 0 <= self.distill <= 1, "in [0, 1]"),
            ("temperature", self.temperature > 0, "above 0"),
            ("attention", self.attention >= 0, "0 or more"),
            ("mixup", self.mixup >= 0, "0 or more"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            ("ema", 0 <= self.ema < 1, "in [0, 1)"),
            ("clip", self.clip is None or self.clip > 0, "above 0"),
            ("amp", self.amp in ("no", "bf16", "fp16"), "'no', 'bf16' or 'fp16'"),
            ("recalibrate", self.recalibrate >= 0, "0 or more images"),
            ("evaluate_every", self.evaluate_every >= 0, "0 or more epochs"),
        ]
        for name, good, expected in checks:
            if not good:
                raise PrunerError(f"{name}: expected {expected}, got {getattr(self, name)!r}")

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up."""
        default = 0.02 if self.optimizer == "sgd" else 5e-4
        return default if self.lr is None else self.lr

    def lr_at(self, step: int, steps: int, steps_an_epoch: int) -> float:
        """The learning rate of optimizer step number step of steps."""
        warm = min(round(self.warmup * steps_an_epoch), steps - 1)
        if step < warm:
            return self.peak_lr * (step + 1) / (warm + 1)
        return self.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
