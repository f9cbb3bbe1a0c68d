"""Explore: trains a structure, cuts it further, trains what was cut, and grows back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import cos, pi
from typing import Any

from torch import Tensor

from ..search import NothingFound
from ..structure import Plan
from ..surgery import compact_network, find_kept_elements, scatter_importance
from .base import Conclusion, Strategy, StrategySetting
from .element_mask import ElementMask


class Explore(Strategy):
    """Exploitation and exploration in turn (IEE, arXiv 2502.03658), picked by the solver.

    It begins with the structure for the budget, the active one. Round r of R, from 0:

    1. the active structure is trained for H steps and scored as it is then;
    2. the solver cuts of it what does not fit into ``1 - w`` of the budget, where
       ``w = share (1 + cos(pi r / R)) / 2``;
    3. what is left is trained for J steps;
    4. all that was cut comes back with the values that it had last, and is trained for Q steps in
       the dense network while the active elements stand still;
    5. the dense network is scored, and the solver grows the active structure to the budget. After
       the last round that is the structure that is measured.

    What is cut is behind gates that are closed: its values stay, neither trained nor decayed. The
    statistics of batch norms follow the network as it runs.
    """

    name = "explore"

    def __init__(
        self, asked: StrategySetting, rounds: int = 4,
        lengths: tuple[int, int, int] = (150, 150, 150), share: float = 0.3,
    ) -> None:  # fmt: skip
        """Take the number of rounds, the steps H, J, Q, and the share cut by the first round."""
        super().__init__(asked)
        self.rounds, self.lengths, self.share = rounds, lengths, share
        self._active: Plan | None = None
        self._explores = False
        self._mask: ElementMask | None = None

    @property
    def steps(self) -> int:
        """Training steps in all."""
        return self.rounds * sum(self.lengths)

    @property
    def choice_step(self) -> int:
        """The end: what grows last is chosen for good."""
        return self.steps

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells its training from another."""
        settings = {"strategy.rounds": self.rounds, "strategy.lengths": list(self.lengths),
                    "strategy.share": self.share}  # fmt: skip
        return {**super().identity, **settings, "strategy.criterion": self.asked.scores.criterion}

    def before_step(self, step: int) -> None:
        """Grow, cut or bring back, where a phase of a round begins."""
        number, place = divmod(step, sum(self.lengths))
        exploit, rest, _ = self.lengths
        if place == 0:
            self._grow(number)
        elif place == exploit:
            self._cut(number)
        elif place == exploit + rest:
            self._reactivate(number)

    def after_backward(self, scale: float) -> None:
        """Clear the gradients of what stands still."""
        if self._mask is not None:
            self._mask.keep()

    def after_step(self) -> None:
        """Put back what stands still."""
        if self._mask is not None:
            self._mask.put_back()

    def conclude(self) -> Conclusion:
        """Return fresh scores of the dense network, and what is active."""
        assert self._active is not None
        net = self.read_network()
        return Conclusion(net, self.asked.score(net), self._active.without_idle_dims(net))

    def capture(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the active structure and the phase."""
        plan = None if self._active is None else json.loads(self._active.to_json())
        return {}, {"active": plan, "explores": self._explores}

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take structure and phase back; the gates are in the module's state."""
        if notes["active"] is not None:
            self._train(Plan.from_json(json.dumps(notes["active"])), notes["explores"])

    def _grow(self, number: int) -> None:
        """Begin a round with the structure for the budget."""
        asked = self.asked
        if self._active is None:
            plan = asked.pick(asked.net, asked.scores, asked.budget_ms)
        else:
            found = self.conclude()
            plan = asked.pick(found.net, found.scores, asked.budget_ms, beyond=found.beyond)
        asked.say(f"  round {number + 1} of {self.rounds}: train {asked.budget_ms:.4g} ms")
        self._train(plan, explores=False)

    def _cut(self, number: int) -> None:
        """Keep of the active structure what fits into less than the budget."""
        asked, active = self.asked, self._active
        assert active is not None
        less = self.share * (1 + cos(pi * number / self.rounds)) / 2
        target_ms = (1 - less) * asked.budget_ms
        net = self.read_network()
        scores = scatter_importance(asked.score(compact_network(net, active)), net, active)
        try:
            plan = asked.pick(net, scores, target_ms, within=active)
        except NothingFound:
            asked.say(f"  nothing fits into {target_ms:.4g} ms: this round cuts nothing")
            return
        asked.say(f"  round {number + 1} of {self.rounds}: cut to {target_ms:.4g} ms")
        self._train(plan, explores=False)

    def _reactivate(self, number: int) -> None:
        assert self._active is not None
        self.asked.say(f"  round {number + 1} of {self.rounds}: train what was cut")
        self._train(self._active, explores=True)

    def _train(self, active: Plan, explores: bool) -> None:
        """Open the gates of what runs, and choose the elements to train: active or all others."""
        self._active, self._explores = active, explores
        self.gates.set_plan(Plan({}, {}) if explores else active)
        kept = find_kept_elements(self.asked.net, active)
        trained = {name: ~mask for name, mask in kept.items()} if explores else kept
        self._mask = ElementMask(self.module, trained)
