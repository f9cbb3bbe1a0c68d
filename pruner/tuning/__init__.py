"""Trains a network towards a teacher, keeps checkpoints, and evaluates what it has become."""

from .bn_recalibration import recalibrate
from .evaluate import evaluate
from .history import History, TuneEvent
from .recipe import Recipe
from .trainer import finetune

__all__ = [
    "History", "Recipe", "TuneEvent", "evaluate", "finetune", "recalibrate",
]  # fmt: skip
