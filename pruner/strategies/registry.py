"""Strategies by name, made of a configuration's section solve."""

from ..errors import PrunerError
from ..search import SolveConfig
from .base import Strategy, StrategySetting
from .explore import Explore
from .progressive import Progressive

STRATEGIES: dict[str, type[Strategy]] = {kind.name: kind for kind in (Progressive, Explore)}


def make_strategy(asked: StrategySetting, options: SolveConfig) -> Strategy:
    """Make the strategy that a section solve names; PrunerError where it names none that trains."""
    if options.strategy == Progressive.name:
        return Progressive(
            asked, options.progressive_steps, options.progressive_picks, options.progressive_by
        )
    if options.strategy == Explore.name:
        return Explore(asked, options.explore_rounds, options.explore_steps, options.explore_share)
    raise PrunerError(
        f"strategy {options.strategy!r} trains nothing: expected one of {', '.join(STRATEGIES)}"
    )
