"""Loss of a batch: labels, the teacher's logits and its attention maps."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import PrunerError
from ..graph import extract_logits
from .attention_transfer import attention_loss, return_values
from .mixup import draw_mixture
from .recipe import Recipe


class TuningLoss:
    """The loss of a recipe on batches that its network and its teacher both see.

    Args:
        recipe: Weights of the loss's terms.
        teacher: The dense network; None: labels only.
        maps: Nodes at which attention is compared -> axis of their channels.
        autocast: Makes the context that the networks compute in.
    """

    def __init__(
        self, recipe: Recipe, teacher: nn.Module | None, maps: Mapping[str, int],
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:  # fmt: skip
        self.recipe, self.maps, self.autocast = recipe, maps, autocast
        asked = recipe.distill or maps
        self.teacher = self.extend(teacher) if teacher is not None and asked else None

    def extend(self, module: nn.Module) -> nn.Module:
        """Let a network return the values too at which attention is compared, if anywhere."""
        return return_values(module, tuple(self.maps)) if self.maps else module  # type: ignore[arg-type]

    def compute(self, network: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a batch, mixed here if asked for, and the logits [n, classes].

        network is what `extend` made; inputs are images [n, ...], labels int64 [n].
        """
        mixture = None
        if self.recipe.mixup:
            mixture = draw_mixture(len(labels), self.recipe.mixup, inputs.device)
            inputs = mixture.mix_images(inputs)
        teacher_logits: Tensor | None = None
        teacher_values: Sequence[Tensor] = ()
        with self.autocast():
            if self.teacher is not None:
                with torch.no_grad():
                    teacher_logits, teacher_values = self._split(self.teacher(inputs))
            outputs, values = self._split(network(inputs))
        shape, other = (None if x is None else tuple(x.shape) for x in (outputs, teacher_logits))
        if outputs.ndim != 2 or other not in (None, shape):
            raise PrunerError(
                f"finetune: expected logits [n, classes] alike, got {shape} from the network and "
                f"{other} from its teacher"
            )
        targets = mixture.mix_labels(labels, outputs.shape[1]) if mixture is not None else labels
        loss = distillation_loss(outputs, teacher_logits, targets, self.recipe)
        if self.maps:
            axes = tuple(self.maps.values())
            loss = loss + self.recipe.attention * attention_loss(values, teacher_values, axes)
        return loss, outputs

    def _split(self, results: Any) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the logits, and the values at which attention is compared."""
        results, values = results if self.maps else (results, ())
        return extract_logits(results), values


def distillation_loss(
    outputs: Tensor, teacher: Tensor | None, labels: Tensor, recipe: Recipe
) -> Tensor:
    """Return the mean loss of a batch (Hinton et al. 2015, arXiv 1503.02531).

        (1 - d) * CE(labels, outputs) + d * T^2 * KL(softmax(teacher / T) || softmax(outputs / T))

    Args:
        outputs: Logits [n, classes] of the network.
        teacher: Logits [n, classes] of the dense network; None: labels only.
        labels: int64 [n], or probabilities [n, classes].
        recipe: Gives d (distill), T (temperature) and the labels' smoothing.
    """
    outputs = outputs.float()
    hard = functional.cross_entropy(outputs, labels, label_smoothing=recipe.label_smoothing)
    if teacher is None or recipe.distill == 0:
        return hard
    soft = functional.kl_div(
        functional.log_softmax(outputs / recipe.temperature, 1),
        functional.log_softmax(teacher.float() / recipe.temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - recipe.distill) * hard + recipe.distill * recipe.temperature**2 * soft
