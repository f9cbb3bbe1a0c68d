"""The protocol of criteria that look at the whole network at once, and what they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from ..structure import Importance, Network

Loss = Callable[[Any, Any], Tensor]
Progress = Callable[[int, "int | None"], None]


class NetworkCriterion(ABC):
    """A criterion that says for every width of every Dim what it costs, not index by index.

    name is what the user types. It always needs data.
    """

    name: str
    needs = "activations"

    @abstractmethod
    def score(
        self,
        net: Network,
        batches: Iterable[tuple[Any, Any]],
        loss: Loss | None,
        progress: Progress | None = None,
    ) -> Importance:
        """The Importance of a traced network, which is left as it was.

        batches can be gone through again and again; a loss is needed by some only.
        """
