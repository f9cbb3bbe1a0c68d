"""How importance is estimated."""

from typing import Annotated

from pydantic import StrictBool, StrictInt, StrictStr

from ..utils import entry, settings_class
from .combine import Combination
from .score import Curves
from .solution_path import STEPS, PathForm


@settings_class
class ScoreConfig:
    """How importance is estimated."""

    criterion: Annotated[
        StrictStr,
        entry("measured; refined is slower and better; taylor; magnitude needs no data; and more"),
    ] = "measured"
    images: Annotated[StrictInt, entry("training samples that the scores look at", ge=1)] = 1024
    batch_size: Annotated[StrictInt, entry("samples at once", ge=1)] = 64
    rotate: Annotated[
        StrictBool,
        entry("turn linear streams to their main directions first (see `pruner.rotate`)"),
    ] = True
    curves: Annotated[
        Curves,
        entry(
            "what widths lose: own (as the criterion says), measured (in its order, as criterion "
            "measured finds it), or auto: measured for path, own for others"
        ),
    ] = "auto"
    combine: Annotated[
        Combination | None,
        entry(
            "scores of a task of tasks by each of them, made one: unanimous, ranks, sum or max "
            "(default: scores are of their weighted sum)"
        ),
    ] = None
    path_form: Annotated[
        PathForm, entry("of criterion path: coupled, or released as its code does")
    ] = "coupled"
    path_steps: Annotated[StrictInt, entry("of criterion path: batches of its search", ge=1)] = (
        STEPS
    )
