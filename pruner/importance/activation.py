"""Activation: how strong the values are that consumers read."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..structure import Dim, Slot
from .activation_hooks import ActivationCriterion
from .base import Subject, readers


class Activation(ActivationCriterion):
    """Mean over samples of sum(abs(x)) over the places of what each consumer reads.

    After Hu et al. 2016 (arXiv 1607.03250), with strength in the place of the share of zeros, so
    that it means something without ReLU too. Forward passes only; the unit is its own.
    """

    name = "activation"
    needs = "activations"

    def slots(self, subject: Subject, dim: Dim) -> Sequence[Slot]:
        """See `readers`."""
        return readers(subject, dim)

    def _note(self, key: tuple[str, str], layer: nn.Module, values: Tensor, graph: Tensor) -> None:
        self._keep(key, values.abs(), values.ndim - 1 if isinstance(layer, nn.Linear) else 1)
