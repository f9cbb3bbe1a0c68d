"""Short distillation: a few steps of tuning towards the dense network, to see what a cut leaves."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..graph import extract_logits
from ..tuning import Recipe
from ..utils import make_generator
from .divergence import count_predictions, kl_divergence


def distill_briefly(
    module: nn.Module, examples: Sequence[tuple[tuple[Tensor, ...], Tensor]], steps: int
) -> None:
    """Tune a module in place towards the least KL(dense || module), a batch a step.

    Optimizer and schedule are the default of `pruner.finetune`; the module ends in evaluation mode.

    Args:
        module: The pruned network.
        examples: Batches' inputs and the dense network's class scores; they are gone through again
            and again, each time in another order.
        steps: Of the optimizer.
    """
    recipe = Recipe()
    optimizer = torch.optim.SGD(
        module.parameters(), recipe.peak_lr, recipe.momentum,
        weight_decay=recipe.weight_decay, nesterov=True,
    )  # fmt: skip
    order: list[int] = []
    rng = make_generator("lesson", steps)  # the former name: seeds stay
    module.train()
    with torch.enable_grad():
        for step in range(steps):
            order = order or torch.randperm(len(examples), generator=rng).tolist()
            inputs, dense = examples[order.pop()]
            optimizer.param_groups[0]["lr"] = recipe.lr_at(step, steps, len(examples))
            scores = extract_logits(module(*inputs))
            (kl_divergence(dense, scores) / count_predictions(scores)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    module.eval()
