"""Short distillation: a few steps of tuning towards the dense network, to see what a cut leaves."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..graph import allow_single_values
from ..tasks import Task
from ..tuning import Recipe
from ..utils import make_generator


def distill_briefly(
    module: nn.Module, examples: Sequence[tuple[Any, Any]], steps: int, task: Task | None = None
) -> None:
    """Tune a module in place towards the least divergence from dense, a batch a step.

    Optimizer and schedule are the default of `pruner.finetune`; the module ends in evaluation mode.

    Args:
        module: The pruned network.
        examples: Batches' inputs and the dense network's outputs; they are gone through again and
            again, each time in another order.
        steps: Of the optimizer.
        task: Calls the network and compares outputs (None: by the outputs' kind).
    """
    recipe, task = Recipe(), task or Task()
    optimizer = torch.optim.SGD(
        module.parameters(), recipe.peak_lr, recipe.momentum,
        weight_decay=recipe.weight_decay, nesterov=True,
    )  # fmt: skip
    order: list[int] = []
    rng = make_generator("lesson", steps)  # the former name: seeds stay
    module.train()
    with torch.enable_grad(), allow_single_values(module):
        for step in range(steps):
            order = order or torch.randperm(len(examples), generator=rng).tolist()
            inputs, dense = examples[order.pop()]
            optimizer.param_groups[0]["lr"] = recipe.lr_at(step, steps, len(examples))
            outputs = task.forward(module, inputs)
            task.divergence(outputs, dense).mean.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    module.eval()
