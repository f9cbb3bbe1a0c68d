"""Loss of a batch: the task's own, the divergence from the teacher, and attention maps."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..data import count_samples
from ..errors import PrunerError
from ..graph import find_device
from ..tasks import DEFAULT, Task, TaskModule, draw_mixture
from .attention_transfer import ValueRecorder, attention_loss
from .recipe import Recipe


class TuningLoss:
    """The loss of a recipe on batches that a network and its teacher both see.

    Attributes:
        network: The network, to be called on (inputs, targets); a wrapper may take its place.
    """

    def __init__(
        self, task: Task, recipe: Recipe, module: nn.Module, teacher: nn.Module | None,
        maps: Mapping[str, int], autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:  # fmt: skip
        """Take the networks, the nodes at which attention is compared and their channels' axes.

        Args:
            task: Calls the networks and judges their outputs.
            recipe: Weights of the loss's terms.
            module: The network that is trained.
            teacher: The dense network; None: labels only.
            maps: Node -> axis of its channels.
            autocast: Makes the context that the networks compute in.
        """
        self.task, self.recipe, self.maps, self.autocast = task, recipe, maps, autocast
        self.student = self._extend(module)
        self.network: nn.Module = TaskModule(task, self.student)
        asked = recipe.distill or maps or not task.has_loss
        self.teacher = self._extend(teacher) if teacher is not None and asked else None
        if self.teacher is None and not task.has_loss:
            raise PrunerError(f"finetune: task {task.name!r} has no loss, so it needs a teacher")

    def _extend(self, module: nn.Module) -> nn.Module:
        """Let a network keep the values at which attention is compared, if anywhere."""
        return ValueRecorder(module, tuple(self.maps)) if self.maps else module  # type: ignore[arg-type]

    def compute(self, network: nn.Module, inputs: Any, targets: Any) -> tuple[Tensor, Any]:
        """Return the mean loss of a batch, mixed here if asked for, and the outputs.

        network is `TuningLoss.network`, perhaps wrapped.
        """
        mixture = None
        if self.recipe.mixup:
            device = find_device(self.student)
            mixture = draw_mixture(count_samples(inputs), self.recipe.mixup, device)
            inputs = mixture.mix_images(inputs)
        taught: Any = None
        with self.autocast():
            if self.teacher is not None:
                with torch.no_grad():
                    taught = self.task.forward(self.teacher, inputs)
            outputs = network(inputs, targets)
        outputs = cast_floats(outputs, torch.float32)
        if mixture is not None:
            targets = self.task.mix_targets(targets, outputs, mixture)
        loss = distillation_loss(outputs, taught, targets, self.recipe, self.task)
        if self.maps:
            axes = tuple(self.maps.values())
            loss = loss + self.recipe.attention * attention_loss(
                _read_values(self.student), _read_values(self.teacher), axes
            )
        return loss, outputs


def _read_values(module: nn.Module | None) -> Sequence[Tensor]:
    assert isinstance(module, ValueRecorder)
    return module.values


def distillation_loss(
    outputs: Any, teacher: Any, targets: Any, recipe: Recipe, task: Task | None = None
) -> Tensor:
    """Return the mean loss of a batch.

        (1 - d) * loss(outputs, targets) + d * divergence(outputs, teacher, T)

    Where outputs are distributions it is T^2 * KL (Hinton et al. 2015, arXiv 1503.02531). Of a task
    without a loss it is all.

    Args:
        outputs: Of the network, as the task's forward returns them.
        teacher: Of the dense network; None: labels only.
        targets: As the task's loss takes them.
        recipe: Gives d (distill), T (temperature) and the labels' smoothing.
        task: Judges the outputs (None: `pruner.tasks.DEFAULT`).
    """
    task = task or DEFAULT()
    outputs = cast_floats(outputs, torch.float32)

    def compare() -> Tensor:
        dense = cast_floats(teacher, torch.float32)
        return task.divergence(outputs, dense, recipe.temperature).mean

    if not task.has_loss:
        return compare()
    hard = task.mean_loss(outputs, targets, recipe.label_smoothing)
    if teacher is None or recipe.distill == 0:
        return hard
    return (1 - recipe.distill) * hard + recipe.distill * compare()


def cast_floats(values: Any, dtype: torch.dtype) -> Any:
    """Return the same nesting with all floating tensors in one type."""
    return pytree.tree_map_only(
        Tensor, lambda x: x.to(dtype) if x.is_floating_point() else x, values
    )
