"""Fine-tunes a pruned network with its dense teacher, keeps checkpoints, and evaluates it."""

from .bn_recalibration import recalibrate
from .companion import Companion
from .evaluate import evaluate
from .recipe import Recipe
from .reporting import History, TuneEvent
from .trainer import finetune

__all__ = ["Companion", "History", "Recipe", "TuneEvent", "evaluate", "finetune", "recalibrate"]
