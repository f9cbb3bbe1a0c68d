"""The protocol of criteria that look at the whole network at once."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from ..data import Batch
from ..structure import Importance, Network
from ..tasks import Task
from .base import Callback, Loss


class NetworkCriterion(ABC):
    """A criterion that scores the widths of every Dim as a whole, not index by index.

    Attributes:
        name: What the user types.
        needs: As `Criterion.needs`; never ``"weights"``: it always takes data.
        needs_target: As `Criterion.needs_target`.
        needs_task: Whether scores depend on the loss or the divergence of the task.
        measured_curves: As `Criterion.measured_curves`.
    """

    name: str
    needs = "activations"
    needs_target: bool = False
    needs_task: bool = True
    measured_curves: bool = False

    @abstractmethod
    def score(
        self, net: Network, batches: Iterable[Batch], loss: Loss | None, progress: Callback = None,
        task: Task | None = None,
    ) -> Importance:  # fmt: skip
        """Score a traced network, which is left as it was.

        Args:
            net: The network that `pruner.trace` made.
            batches: What can be gone through again and again.
            loss: Needed by those on gradients only.
            progress: Called with (steps done, steps in all).
            task: Calls the network, and tells how far outputs are from the dense ones (None: the
                inputs are its arguments; see `pruner.tasks.compare_outputs`).
        """
