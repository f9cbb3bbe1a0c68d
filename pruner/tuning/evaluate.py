"""Accuracy and loss of a classifier on batches."""

import time
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import PrunerError
from ..graph import evaluation_mode, extract_logits, find_device


@dataclass(frozen=True)
class Evaluation:
    """Result of a classifier on so many images, and the seconds that it took.

    accuracy is the share of images whose largest output is their class (0..1), loss the mean
    cross-entropy in nats.
    """

    accuracy: float
    loss: float
    images: int
    seconds: float


def evaluate(
    module: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    progress: Callable[[int, int | None], None] | None = None,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> Evaluation:
    """Run batches through a network in evaluation mode, and leave it in the mode of before.

    Args:
        module: A classifier.
        loader: Pairs of inputs and labels, int64 [n].
        progress: Is called with (batches done, batches in all or None).
        reduce: Sums a tensor over processes, where each has a share of the images.

    Raises:
        PrunerError: There are no images.
    """
    device = find_device(module)
    total = len(loader) if isinstance(loader, Sized) else None
    sums = torch.zeros(3, dtype=torch.float64)  # images, correct ones, loss
    begun = time.perf_counter()
    with evaluation_mode(module), torch.inference_mode():
        for done, (inputs, labels) in enumerate(loader, 1):
            outputs = extract_logits(module(inputs.to(device))).float().cpu()
            loss = nn.functional.cross_entropy(outputs, labels, reduction="sum")
            correct = (outputs.argmax(1) == labels).sum()
            sums += torch.tensor([len(labels), correct.item(), loss.item()], dtype=torch.float64)
            if progress is not None:
                progress(done, total)
    if reduce is not None:
        sums = reduce(sums.to(device, torch.float32 if device.type == "mps" else None)).cpu()
    images = int(sums[0])
    if not images:
        raise PrunerError("evaluate: no images; the loader is empty")
    return Evaluation(
        float(sums[1]) / images, float(sums[2]) / images, images, time.perf_counter() - begun
    )
