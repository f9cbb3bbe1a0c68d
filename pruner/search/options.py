"""How a structure is searched for."""

from typing import Annotated, Any

from pydantic import BeforeValidator, StrictBool, StrictFloat, StrictInt

from ..utils import NUMBER, entry, refuse, settings_class


def _read_margin(value: Any) -> Any:
    if value == "auto":
        return value
    try:
        margin = float(value)
    except (TypeError, ValueError):
        raise refuse("a number or auto") from None
    if not 0 <= margin < 1:
        raise refuse("a share from 0 to 1, or auto")
    return margin


@settings_class
class SolveConfig:
    """How the structure is chosen."""

    trials: Annotated[
        StrictInt,
        entry(
            "structures to tune for a moment and try out before one is chosen; 0: none, the "
            "scores are taken at their word (see `pruner.evaluate_candidates`)",
            ge=0,
        ),
    ] = 0
    trial_steps: Annotated[StrictInt, entry("batches that each is tuned for", ge=0)] = 64
    margin: Annotated[
        float | str,
        entry("share of the budget to keep free: 0.02, or auto, from the table's own error"),
        BeforeValidator(_read_margin),
    ] = 0.0
    check: Annotated[
        StrictBool, entry("measure the chosen structure and correct the table by it")
    ] = True
    attempts: Annotated[StrictInt, entry("structures to measure at most, with check", ge=1)] = 4
    time_limit_s: Annotated[StrictFloat, entry("seconds a solve may take", gt=0), NUMBER] = 60.0
