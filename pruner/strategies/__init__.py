"""Strategies: ways to a structure that train the network while they choose it.

A `Strategy` goes along with one training run of a gated network and asks the solver between its
steps: `Progressive` lets what the solver leaves out shrink to nothing, `Explore` trains what was
cut and lets the best of it grow back. One of them ends in scores, from which the structure is
chosen for good, and in the weights as they were trained.
"""

from .base import Conclusion, Strategy, StrategySetting
from .explore import Explore
from .progressive import Progressive
from .registry import STRATEGIES, make_strategy

__all__ = [
    "Conclusion", "Explore", "Progressive", "STRATEGIES", "Strategy", "StrategySetting",
    "make_strategy",
]  # fmt: skip
