"""Lesson: a few steps of learning from the dense network's answers, to see what a cut leaves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..graph import extract_logits
from ..tuning import Recipe
from ..utils import make_generator
from .measured import count_predictions, kl_divergence


def distill_briefly(
    module: nn.Module, lessons: Sequence[tuple[tuple[Tensor, ...], Tensor]], steps: int
) -> None:
    """Tune module in place, that many steps of a batch each; it ends in evaluation mode.

    Towards the least KL(dense || module) of the class probabilities, with the optimizer and the
    schedule that are the default of `pruner.finetune`. lessons are batches' inputs with what the
    dense network answers; they are gone through again and again, each time in another order.
    """
    recipe = Recipe()
    optimizer = torch.optim.SGD(
        module.parameters(), recipe.peak_lr, recipe.momentum,
        weight_decay=recipe.weight_decay, nesterov=True,
    )  # fmt: skip
    order: list[int] = []
    dice = make_generator("lesson", steps)
    module.train()
    with torch.enable_grad():
        for step in range(steps):
            order = order or torch.randperm(len(lessons), generator=dice).tolist()
            inputs, taught = lessons[order.pop()]
            optimizer.param_groups[0]["lr"] = recipe.lr_at(step, steps, len(lessons))
            scores = extract_logits(module(*inputs))
            (kl_divergence(taught, scores) / count_predictions(scores)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    module.eval()
