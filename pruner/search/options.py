"""How a structure is searched for."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, StrictBool, StrictFloat, StrictInt, StrictStr

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


def _read_texts(value: Any) -> Any:
    return (
        (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
    )


def _read_also(value: Any) -> Any:
    """Read ``[params=1.5M, memory=6MB]``, or the same as names and amounts."""
    if isinstance(value, Mapping):
        return tuple(f"{name}={amount}" for name, amount in value.items())
    return _read_texts(value)


def _read_steps(value: Any) -> Any:
    """Read ``150,150,150``, or a list of three numbers."""
    try:
        parts = value.split(",") if isinstance(value, str) else value
        steps = tuple(int(one) if isinstance(one, str) else one for one in parts)
    except (TypeError, ValueError):
        steps = ()
    if len(steps) != 3:
        raise refuse("three numbers of batches, such as 150,150,150")
    return steps


def _check_steps(value: tuple[int, int, int]) -> tuple[int, int, int]:
    if min(value) < 1:
        raise refuse("three numbers of batches, 1 or more each")
    return value


_TEXTS = BeforeValidator(_read_texts, json_schema_input_type=list[str] | str)


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
    strategy: Annotated[
        Literal["once", "progressive", "explore"],
        entry(
            "once; progressive: train while what is to go shrinks to nothing; explore: train, cut, "
            "train what was cut, and let the best of it grow back"
        ),
    ] = "once"
    progressive_steps: Annotated[
        StrictInt, entry("batches that progressive trains for in all", ge=2)
    ] = 600
    progressive_picks: Annotated[
        StrictInt, entry("times that progressive solves on the way, evenly spread", ge=2)
    ] = 20
    progressive_by: Annotated[
        Literal["criterion", "gates"],
        entry(
            "what progressive solves by: the criterion's scores of the dense network, or what "
            "training says of gates (as published)"
        ),
    ] = "criterion"
    explore_rounds: Annotated[StrictInt, entry("times that explore cuts and grows", ge=1)] = 4
    explore_steps: Annotated[
        tuple[StrictInt, StrictInt, StrictInt],
        entry(
            "batches that explore trains in a round: H before it cuts, J after, Q what was cut: "
            "150,150,150"
        ),
        AfterValidator(_check_steps),
        BeforeValidator(_read_steps, json_schema_input_type=list[int] | str),
    ] = (150, 150, 150)
    explore_share: Annotated[
        StrictFloat,
        entry("share of the budget that the first round cuts; later ones less", gt=0, lt=1),
        NUMBER,
    ] = 0.3
    attempts: Annotated[StrictInt, entry("structures to measure at most, with check", ge=1)] = 4
    time_limit_s: Annotated[StrictFloat, entry("seconds a solve may take", gt=0), NUMBER] = 60.0
    also: Annotated[
        tuple[StrictStr, ...],
        entry(
            "further budgets: params=1.5M, macs=40%, memory=6MB (peak of weights and activations), "
            "RUN=8ms (by the latency table of another RUN of this network)"
        ),
        BeforeValidator(_read_also, json_schema_input_type=list[str] | dict[str, str] | str),
    ] = ()
    keep: Annotated[
        tuple[StrictStr, ...],
        entry("dims that stay whole and blocks that stay: names, or globs such as layer4.*"),
        _TEXTS,
    ] = ()
    min_width: Annotated[
        dict[str, StrictInt | StrictStr],
        entry("the least width of dims, by name or glob: 16, or 50% of the uncut one"),
    ] = field(default_factory=dict)
    step: Annotated[
        dict[str, StrictInt], entry("widths of dims are multiples of it, by name or glob")
    ] = field(default_factory=dict)
    blocks: Annotated[StrictBool, entry("drop whole blocks")] = True
    max_depth: Annotated[StrictInt | None, entry("blocks that are kept at most", ge=0)] = None
    uniform: Annotated[
        tuple[StrictStr, ...],
        entry("dims of one kind that get one width, by glob: blocks.*.mlp"),
        _TEXTS,
    ] = ()
