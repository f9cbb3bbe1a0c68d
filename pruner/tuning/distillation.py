"""The loss of tuning: labels and the dense network's answers, mixed."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from .recipe import Recipe


def distillation(outputs: Tensor, taught: Tensor | None, labels: Tensor, recipe: Recipe) -> Tensor:
    """Mean loss of a batch (Hinton et al. 2015, arXiv 1503.02531).

        (1 - d) * CE(labels, outputs) + d * T^2 * KL(softmax(taught / T) || softmax(outputs / T))

    outputs, taught
        Logits [n, classes] of the network and of its teacher; None leaves the labels alone.
    labels
        int64 [n], or probabilities [n, classes].
    recipe
        Gives d (distill), T (temperature) and the labels' smoothing.
    """
    outputs = outputs.float()
    hard = functional.cross_entropy(outputs, labels, label_smoothing=recipe.label_smoothing)
    if taught is None or recipe.distill == 0:
        return hard
    soft = functional.kl_div(
        functional.log_softmax(outputs / recipe.temperature, 1),
        functional.log_softmax(taught.float() / recipe.temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - recipe.distill) * hard + recipe.distill * recipe.temperature**2 * soft
