"""The protocol of strategies: a companion of a training run that asks the solver on the way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from ..gates import find_gates, gate_network
from ..graph import named_tensors
from ..structure import Importance, Network, Plan
from ..surgery import replace_tensors
from ..tuning import Companion


class PickStructure(Protocol):
    """Picks the structure of most importance by the latency table: see `pruner.formulate`."""

    def __call__(
        self,
        net: Network,
        scores: Importance,
        target_ms: float,
        within: Plan | None = None,
        beyond: Plan | None = None,
    ) -> Plan:
        """Return the plan; raises NothingFound where no structure meets the target."""


@dataclass(frozen=True)
class StrategySetting:
    """What a strategy starts from, and what it asks.

    Attributes:
        net: The dense network with its trained weights.
        scores: Its importance.
        dense_ms: Its latency.
        budget_ms: The latency that is asked for.
        pick: Solves.
        score: Scores a network, the dense one or a cut one, as the first scores were made.
        dims: The Dims that may be cut; None: all.
        blocks: The Blocks that may be dropped; None: all.
        say: Is told in a line what the strategy does.
    """

    net: Network
    scores: Importance
    dense_ms: float
    budget_ms: float
    pick: PickStructure
    score: Callable[[Network], Importance]
    dims: tuple[str, ...] | None = None
    blocks: tuple[str, ...] | None = None
    say: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Conclusion:
    """What the structure is chosen for good by.

    Attributes:
        net: The dense network with the weights as they are now.
        scores: The importance to choose by.
        beyond: What the structure is to keep, if that meets the budget; None: nothing.
    """

    net: Network
    scores: Importance
    beyond: Plan | None = None


class Strategy(Companion, ABC):
    """One training run on the way to a structure.

    `module`, a gated copy of the network, is to be trained for `steps` steps with the strategy as
    its companion (`pruner.tuning.finetune`). Before step `choice_step` the training stops:
    `conclude` says by what to choose the structure, which a new strategy of the same settings is
    told by `settle` before it continues from the checkpoint. Then `read_network` has the weights.

    Attributes:
        name: What the user types.
        asked: What it starts from.
        module: The gated network.
    """

    name: str

    def __init__(self, asked: StrategySetting) -> None:
        """Make the gated network.

        Raises:
            PrunerError: An operator works along a Dim in a way that gates cannot weigh.
        """
        self.asked = asked
        self.module: nn.Module = gate_network(asked.net, asked.dims, asked.blocks)
        self.gates = find_gates(self.module)
        self.gates.requires_grad_(False)

    @property
    @abstractmethod
    def steps(self) -> int:
        """Training steps in all."""

    @property
    @abstractmethod
    def choice_step(self) -> int:
        """The step, counted from 0, before which the structure is chosen for good."""

    @abstractmethod
    def conclude(self) -> Conclusion:
        """Return what the structure is to be chosen by, at `choice_step`."""

    def settle(self, plan: Plan) -> None:
        """Take note of the structure that was chosen, for the steps that are left."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells its training from another: its name, and settings of a subclass."""
        return {"strategy": self.name}

    @property
    def untrained(self) -> tuple[nn.Parameter, ...]:
        """The gates, which the strategy sets."""
        return tuple(self.gates.parameters())

    def read_network(self) -> Network:
        """Return the dense network with a copy of the weights as they are now."""
        own, known = named_tensors(self.module, tied=True), self.asked.net.program.tensors
        tensors = {
            name: own[name].detach().to("cpu", copy=True).contiguous()
            for name in known
            if name in own
        }
        return replace_tensors(self.asked.net, tensors)
