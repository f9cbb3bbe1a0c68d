"""Cache keys: digests of all that a step depends on, by which a RUN knows that it is done.

| step      | depends on                                                                  |
|-----------|-----------------------------------------------------------------------------|
| measure   | section measure                                                             |
| dense     | task                                                                        |
| rotate    | task, how many samples score, seed                                          |
| score     | section score, task, seed                                                   |
| round K   | sections rounds, score, solve, finetune; seed, K, budget in ms, task        |
| solve     | budget, sections solve, score, measure; as a round; task, seed, tables;     |
|           | section finetune where a strategy trains                                    |
| reference | section finetune, task, seed                                                |
| finetune  | section finetune, task, plan, the solve, seed                               |
| frontier  | number of points, sections solve, score, measure; task, seed, tables        |
| bench     | number of runs                                                              |

Where the criterion looks at a second domain (``needs_target``), score and all that follows depend
on that data set too. A task says by its fingerprint what it is, how it is set and what data it has.
What all steps depend on, the network, its weights and input, is the RUN's identity. The digests are
stored in RUNs: they stay as they are.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..structure import Plan
from ..utils import digest_json
from .config import Config

# Settings that came later: keys of before are those without them.
_LATER = {
    "solve": (
        "also",
        "keep",
        "min_width",
        "step",
        "blocks",
        "max_depth",
        "uniform",
        "strategy",
        "progressive_steps",
        "progressive_picks",
        "progressive_by",
        "explore_rounds",
        "explore_steps",
        "explore_share",
    ),
    "measure": ("device", "python", "with_weights", "tool"),
    "score": ("curves", "combine", "path_form", "path_steps"),
}
# What of the last fine-tune the rounds before it do not depend on.
_LAST_TUNING = ("epochs", "evaluate_every", "reference")
# What of it a strategy that trains does not depend on.
_NOT_IN_STRATEGY = (*_LAST_TUNING, "repair", "attention", "ema", "recalibrate")


@dataclass(frozen=True)
class CacheKeys:
    """The keys of all steps under one configuration.

    Attributes:
        config: The resolved configuration.
        digest_task: Gives the digest of the task and its data, opened where a step needs them.
        digest_tables: Gives the digests of the other RUNs' tables that latency is limited by.
        digest_target: Gives the digest of the second domain, where the criterion looks at it.
    """

    config: Config
    digest_task: Callable[[], str]
    digest_tables: Callable[[], list[str]] = list
    digest_target: Callable[[], str] | None = None

    @property
    def measure(self) -> str:
        """The latency table."""
        return digest_json(self._take("measure")["measure"])

    @property
    def dense(self) -> str:
        """The dense network's metric."""
        return digest_json(self.digest_task())

    @property
    def rotate(self) -> str:
        """The dense network in its principal directions."""
        return digest_json([self.digest_task(), self.config.score.images, self.config.seed])

    @property
    def score(self) -> str:
        """The importance."""
        return digest_json(self._take("score") | self._take_common())

    @property
    def solve(self) -> str:
        """The plan of the configuration's one budget."""
        key = {"budget": str(self.config.budgets[0]), "rounds": self._take_rounds()}
        if tables := self.digest_tables():
            key["tables"] = tables
        if self.config.solve.strategy != "once":
            key["training"] = self._take_training()
        return digest_json(key | self._take("solve", "score", "measure") | self._take_common())

    @property
    def reference(self) -> str:
        """The dense network's metric after the pruned one's fine-tune."""
        config = self.config
        return digest_json([asdict(config.finetune), self.digest_task(), config.seed])

    def of_round(self, number: int, budget_ms: float) -> str:
        """Return the key of a round on the way to a budget."""
        key = [self._take_rounds(), number, budget_ms, self.digest_task()]
        return digest_json([*key, *self._take_target().values()])

    def of_finetune(self, plan: Plan, solve: str) -> str:
        """Return the key of the fine-tune of a plan that a solve with that key made."""
        # The rounds of the solve may have tuned.
        key = {"plan": digest_json(plan.to_json()), "solve": solve}
        return digest_json(key | self._take("finetune") | self._take_common())

    def of_frontier(self, points: int) -> str:
        """Return the key of a frontier of so many points."""
        key = {"points": points, "tables": self.digest_tables()}
        return digest_json(key | self._take("solve", "score", "measure") | self._take_common())

    @staticmethod
    def of_bench(runs: int) -> str:
        """Return the key of a comparison of so many runs."""
        return digest_json(runs)

    def _take(self, *sections: str) -> dict[str, Any]:
        result = {}
        for name in sections:
            section = getattr(self.config, name)
            default, result[name] = type(section)(), asdict(section)
            for later in _LATER.get(name, ()):
                if getattr(section, later) == getattr(default, later):
                    del result[name][later]
        return result

    def _take_common(self) -> dict[str, Any]:
        has_task = self.config.data is not None or self.config.task is not None
        key = {"data": self.digest_task() if has_task else None, "seed": self.config.seed}
        return key | self._take_target()

    def _take_target(self) -> dict[str, str]:
        """Return the second domain; nothing where the scores do not look at it."""
        return {} if self.digest_target is None else {"target": self.digest_target()}

    def _take_training(self) -> dict[str, Any]:
        """Return how a strategy trains."""
        settings: dict[str, Any] = self._take("finetune")["finetune"]
        return {name: one for name, one in settings.items() if name not in _NOT_IN_STRATEGY}

    def _take_rounds(self) -> dict[str, Any]:
        """Return what the rounds depend on; nothing where there is but one."""
        if self.config.rounds.count == 1:
            return {}
        key = self._take("rounds", "score", "solve", "finetune")
        for name in _LAST_TUNING:
            del key["finetune"][name]
        return key | {"seed": self.config.seed}
