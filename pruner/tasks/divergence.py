"""How far a network's outputs are from the dense network's, without labels.

Two measures: KL(dense || pruned) of distributions over classes, and the squared error of anything
else, relative to the dense network's values.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.utils import _pytree as pytree

from ..errors import PrunerError
from .total import Total

SCORES = "logits"
"""The entry of a record of outputs that holds class scores, as Hugging Face's networks name it."""


def compare_outputs(outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
    """Return the divergence by the outputs' kind.

    A tensor is taken for class scores, [n, ..., classes] or maps [n, classes, H, W], if it has two
    classes or more, and so is a record's entry ``logits``, beside which nothing counts. All other
    outputs are values: the relative squared errors of all floating tensors in them are summed.

    Args:
        outputs: Of the pruned network, any nesting of tensors.
        dense: Of the dense network, nested alike.
        temperature: Of class scores; see `compare_scores`.

    Raises:
        PrunerError: Outputs are nested otherwise or have other shapes, or none is floating.
    """
    if isinstance(dense, Mapping) and isinstance(dense.get(SCORES), Tensor):
        outputs, dense = outputs[SCORES], dense[SCORES]
    if isinstance(dense, Tensor) and dense.ndim > 1 and dense.shape[find_class_axis(dense)] > 1:
        return compare_scores(outputs, dense, temperature)
    return compare_values(outputs, dense)


def find_class_axis(scores: Tensor) -> int:
    """Return the axis of the classes: 1 of maps [n, classes, H, W], the last of anything else."""
    return 1 if scores.ndim == 4 else -1


def compare_scores(
    outputs: Tensor, dense: Tensor, temperature: float = 1.0, axis: int | None = None
) -> Total:
    """Return T^2 KL(softmax(dense / T) || softmax(outputs / T)) and the number of distributions.

    That is the rise of the expected cross-entropy, in nats, if labels were drawn from what the
    dense network says; T^2 keeps the gradient's size (Hinton et al. 2015, arXiv 1503.02531).

    Args:
        outputs: Class scores of the pruned network.
        dense: Of the dense network, in the same shape.
        temperature: T.
        axis: Of the classes (None: see `find_class_axis`).
    """
    check_alike(outputs, dense)
    axis = find_class_axis(dense) if axis is None else axis
    p, q = (torch.log_softmax(v / temperature, axis) for v in (dense, outputs))
    value = (p.exp() * (p - q)).sum()
    if temperature != 1:
        value = temperature**2 * value
    return Total(value, dense.numel() // dense.shape[axis])


def compare_independent(outputs: Tensor, dense: Tensor) -> Tensor:
    """Return KL(dense || outputs) of every class that is true or not by itself, in their shape.

    Args:
        outputs: Scores of the pruned network, before the sigmoid.
        dense: Of the dense network, in the same shape.
    """
    p, yes, no = dense.sigmoid(), logsigmoid(dense), logsigmoid(-dense)
    return p * (yes - logsigmoid(outputs)) + (1 - p) * (no - logsigmoid(-outputs))


def compare_values(outputs: Any, dense: Any) -> Total:
    """Return the samples' squared errors relative to the mean square of the dense network's values.

    Summed over all floating tensors of the outputs, each [n, ...] relative to itself; the count is
    the samples of the largest n.

    Raises:
        PrunerError: Outputs are nested otherwise or have other shapes, or none is floating.
    """
    check_alike(outputs, dense)
    pairs = [
        (found, target)
        for found, target in zip(pytree.tree_leaves(outputs), pytree.tree_leaves(dense))
        if isinstance(target, Tensor) and target.is_floating_point() and target.numel()
    ]
    if not pairs:
        raise PrunerError(
            "the outputs hold no floating tensor to compare: give a task with a divergence"
        )
    count = max(_count_rows(target) for _, target in pairs)
    parts = [
        (found - target).square().mean() / target.square().mean().clamp_min(1e-12)
        for found, target in pairs
    ]
    return Total(count * torch.stack(parts).sum(), count)


def check_alike(outputs: Any, dense: Any) -> None:
    """Raise PrunerError where two networks' outputs are nested otherwise or differ in shape."""
    ours, theirs = describe_shapes(outputs), describe_shapes(dense)
    if ours != theirs:
        raise PrunerError(
            f"outputs {ours} do not compare to the dense network's, {theirs}: expected the same "
            "nesting and shapes; give a task whose forward returns such"
        )


def describe_shapes(outputs: Any) -> str:
    """Return the nesting and shapes of outputs in a few words: ``{out: [2, 21, 64, 64]}``."""
    if isinstance(outputs, Tensor):
        return str(list(outputs.shape))
    if isinstance(outputs, Mapping):
        return "{" + ", ".join(f"{k}: {describe_shapes(v)}" for k, v in outputs.items()) + "}"
    if isinstance(outputs, list | tuple):
        return "(" + ", ".join(map(describe_shapes, outputs)) + ")"
    return type(outputs).__name__


def _count_rows(values: Tensor) -> int:
    return len(values) if values.ndim else 1
