"""Activation: how strong the values are that consumers read."""

from torch import Tensor, nn

from .activation_hooks import SampleCriterion, channel_axis
from .base import select_readers


class Activation(SampleCriterion):
    """Mean over samples of sum(abs(x)) over the positions of what each consumer reads.

    After Hu et al. 2016 (arXiv 1607.03250), with strength in the place of the share of zeros, so
    that it means something without ReLU too. Forward passes only; the unit is its own.
    """

    name = "activation"
    needs = "activations"
    slots = staticmethod(select_readers)

    def _record(
        self, key: tuple[str, str], layer: nn.Module, values: Tensor, graph: Tensor
    ) -> None:
        self._accumulate(key, values.abs(), channel_axis(layer, values))
