"""Companion: what goes along with a training run and may change the network between its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class Companion:
    """Looks at every optimizer step of a training run, and does nothing as it stands.

    What it keeps from step to step is in `capture`, so that a run that was killed continues with
    it; the network's own state is in the checkpoint already.
    """

    @property
    def identity(self) -> Mapping[str, Any]:
        """What of it tells one run from another, JSON-encodable."""
        return {}

    @property
    def untrained(self) -> tuple[nn.Parameter, ...]:
        """Parameters that the optimizer leaves alone."""
        return ()

    def before_step(self, step: int) -> None:
        """Take note that a step, counted from 0, is next; a step may be announced twice."""

    def after_backward(self, scale: float) -> None:
        """Look at the gradients of a step; those of `untrained` are multiplied by the scale."""

    def after_step(self) -> None:
        """Look at the parameters after an optimizer step."""

    def capture(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what is to be kept: tensors, and JSON-encodable notes."""
        return {}, {}

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take back what `capture` returned."""
