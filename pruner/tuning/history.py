"""What happened in a tuning run: History when it is over, TuneEvent while it goes on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochResult:
    """One epoch: mean training loss, share of training images right (0..1), last learning rate.

    test_accuracy (0..1) and test_loss (nats) where the epoch was evaluated. seconds count the
    epoch's training and evaluation, over interruptions.
    """

    epoch: int
    loss: float
    accuracy: float
    lr: float
    seconds: float
    test_accuracy: float | None = None
    test_loss: float | None = None


@dataclass(frozen=True)
class History:
    """The whole run: its epochs, optimizer steps and seconds (interruptions left out).

    resumed_at is the step that this call continued from, None for a fresh start.
    """

    epochs: tuple[EpochResult, ...]
    steps: int
    seconds: float
    resumed_at: int | None = None

    @property
    def accuracy(self) -> float | None:
        """Test accuracy at the end, where it was evaluated."""
        return self.epochs[-1].test_accuracy if self.epochs else None


@dataclass(frozen=True)
class TuneEvent:
    """Progress of `finetune`, told to its callback several times a second at most.

    kind
        ``"resume"`` (first, where a checkpoint was found), ``"recalibrate"``, ``"step"``,
        ``"evaluate"`` (test batches are running) or ``"epoch"`` (one is over).
    epoch, epochs
        The present epoch from 1, and how many there are.
    step, steps
        Optimizer steps done and to do, over all epochs.
    loss, accuracy
        Running means of this epoch (nats; 0..1 on augmented training images).
    seconds, eta_s
        Time spent so far and estimated to the end (None while there is nothing to judge by).
    test_accuracy
        With ``"epoch"``: accuracy on the test images, where evaluated.
    """

    kind: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None = None
    accuracy: float | None = None
    seconds: float = 0.0
    eta_s: float | None = None
    test_accuracy: float | None = None
