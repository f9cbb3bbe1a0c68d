"""Recipe: settings of a tuning run, as plain data."""

import math
from typing import Annotated, Literal

from pydantic import StrictBool, StrictFloat, StrictInt, ValidationInfo, field_validator

from ..utils import NUMBER, entry, refuse, settings_class


@settings_class
class Recipe:
    """Settings of `finetune`; every one has a default that suits a cut CNN."""

    batch: Annotated[StrictInt, entry("images an optimizer step, over all processes", ge=1)] = 128
    accumulate: Annotated[
        StrictInt, entry("parts that a batch is sent through in; batch norms see a part", ge=1)
    ] = 1
    optimizer: Annotated[Literal["sgd", "adamw"], entry("sgd (Nesterov momentum) or adamw")] = "sgd"
    lr: Annotated[
        StrictFloat | None,
        entry("peak learning rate, as it is (default: 0.02 for sgd, 5e-4 for adamw)", gt=0),
        NUMBER,
    ] = None
    momentum: Annotated[StrictFloat, entry("of the optimizer", ge=0, lt=1), NUMBER] = 0.9
    weight_decay: Annotated[
        StrictFloat,
        entry("of the optimizer; vectors, such as biases, are not decayed", ge=0),
        NUMBER,
    ] = 1e-4
    warmup: Annotated[
        StrictFloat,
        entry("epochs of linear growth of the rate from 0; it then falls by a half cosine", ge=0),
        NUMBER,
    ] = 0.5
    distill: Annotated[
        StrictFloat,
        entry(
            "the teacher's share of the loss, see `distillation_loss`; 0: labels only", ge=0, le=1
        ),
        NUMBER,
    ] = 0.5
    temperature: Annotated[
        StrictFloat, entry("softness of the teacher's answers", gt=0), NUMBER
    ] = 4.0
    attention: Annotated[
        StrictFloat,
        entry("weight of attention transfer from the teacher, an added term; 0: off", ge=0),
        NUMBER,
    ] = 0.0
    label_smoothing: Annotated[
        StrictFloat, entry("of the labels' share of the loss", ge=0, lt=1), NUMBER
    ] = 0.0
    mixup: Annotated[
        StrictFloat,
        entry("pairs of images and labels are mixed by Beta(mixup, mixup); 0: off", ge=0),
        NUMBER,
    ] = 0.0
    ema: Annotated[
        StrictFloat,
        entry("decay of the weights' moving average, which then is the result; 0: off", ge=0, lt=1),
        NUMBER,
    ] = 0.0
    clip: Annotated[
        StrictFloat | None, entry("largest norm of the gradient (default: any)", gt=0), NUMBER
    ] = None
    amp: Annotated[
        Literal["no", "bf16", "fp16"],
        entry("bf16, fp16 or no (as accelerate is configured): type of the forward pass"),
    ] = "no"
    channels_last: Annotated[StrictBool, entry("memory layout of the weights and images")] = True
    recalibrate: Annotated[
        StrictInt, entry("images of batch-norm statistics before the first epoch; 0: off", ge=0)
    ] = 2048
    evaluate_every: Annotated[
        StrictInt,
        entry("epochs between evaluations on the test images, also at the end; 0: never", ge=0),
    ] = 1

    @field_validator("accumulate")
    @classmethod
    def _check_accumulate(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("batch", value):
            raise refuse("between 1 and batch")
        return value

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up."""
        default = 0.02 if self.optimizer == "sgd" else 5e-4
        return default if self.lr is None else self.lr

    def lr_at(self, step: int, steps: int, steps_per_epoch: int) -> float:
        """Return the learning rate of an optimizer step, counted from 0, of so many."""
        warm = min(round(self.warmup * steps_per_epoch), steps - 1)
        if step < warm:
            return self.peak_lr * (step + 1) / (warm + 1)
        return self.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
