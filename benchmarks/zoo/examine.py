"""Takes one architecture through all columns."""

import time
import warnings
from collections.abc import Callable
from datetime import date
from typing import Any

from .columns import CHECKS
from .listing import build
from .model_state import describe_model, require_unchanged
from .solving import solve_budgets
from .subject import MOST_DIFFERENCE, Failure, Subject, require_equal

PASSED = ("unchanged", "fidelity", "solve", *CHECKS)
"""Columns of ``ok``, ``ok (a word on it)``, or what went wrong."""


def examine(name: str, threads: int = 1) -> dict[str, Any]:
    """Find every column of one line. What fails is said; the columns before it stand."""
    import torch

    from pruner import Plan, trace, verify
    from pruner.structure import count_macs

    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    line: dict[str, Any] = {"result": "ok", "torch": torch.__version__, "date": str(date.today())}
    stage = "build"
    try:
        model, args, kwargs = build(name)
        before = describe_model(model)
        stage, begin = "trace", time.process_time()
        net = trace(model, args, kwargs)
        line["trace_s"] = round(time.process_time() - begin, 1)
        line |= describe_network(net)
        _note(line, "unchanged", lambda: require_unchanged(before, model))
        stage = "plan"
        free = bool(net.dims or net.blocks)
        plan = Plan.random(net, macs=0.5, seed=0, drop_blocks=0.1)
        share = count_macs(net, plan.sizes(), plan.dropped_blocks()) / max(count_macs(net), 1)
        line["macs"] = round(share, 3)
        stage = "oracle"
        line["difference"] = verify(model, net, plan)
        subject = Subject(model, args, kwargs, net, plan)
        _note(line, "fidelity", lambda: compare_dense(subject))
        if free:
            _note(line, "solve", lambda: line.update(solve_budgets(subject)))
        else:
            _note(line, "solve", lambda: explain_whole(line))
        for column, check in CHECKS.items():
            _note(line, column, lambda check=check: check(subject))  # type: ignore[misc]
        stage = "judge"
        half = not free or 0.3 <= line["macs"] <= 0.51
        good = {"half": half, "oracle": line["difference"] <= MOST_DIFFERENCE}
        good |= {column: line[column].startswith("ok") for column in PASSED}
        failed = [column for column, passes in good.items() if not passes]
        if failed:
            line["result"] = "fails: " + ", ".join(failed)
    except Exception as error:
        line["result"] = f"{stage}: {_describe(error)}"
    return line


def describe_network(net: Any) -> dict[str, Any]:
    """Return the columns that say what can be cut."""
    from pruner.structure import count_macs, count_parameters

    least = {dim.name: dim.options()[0] for dim in net.dims.values()}
    parameters, macs = count_parameters(net), max(count_macs(net), 1)
    frozen = [f"{f.reason} ({len(f.tensors)})" for f in net.frozen]
    return {
        "parameters": parameters,
        "dims": len(net.dims),
        "blocks": len(net.blocks),
        "prunable": round(1 - count_parameters(net, least) / max(parameters, 1), 4),
        "prunable_macs": round(1 - count_macs(net, least) / macs, 4),
        "fixed_batch": net.fixed_batch is not None,
        "frozen": "; ".join(reason for reason in frozen if "output of" not in reason),
        "no_rule": ", ".join(sorted({n.name for n in net.axis_map.unsupported})),
    }


def compare_dense(subject: Subject) -> None:
    """Compare the rebuilt dense network with the user's model."""
    require_equal(subject.dense, subject.call(subject.model), most=1e-5)


def explain_whole(line: dict[str, Any]) -> str:
    """Say that there is nothing to cut; raise Failure where more than inputs and outputs hold it.

    A detector's head may be one layer from given maps to given answers.
    """
    if line["frozen"] or line["no_rule"]:
        raise Failure("nothing to prune")
    return "nothing between inputs and outputs"


def _note(line: dict[str, Any], column: str, check: Callable[[], str | None]) -> None:
    """Write ``ok``, with a word on it, or what went wrong into a column."""
    try:
        word = check()
        line[column] = f"ok ({word})" if word else "ok"
    except Exception as error:
        line[column] = _describe(error)


def _describe(error: Exception) -> str:
    from pruner import PrunerError

    own = isinstance(error, PrunerError | Failure)
    text = str(error).strip().partition("\n")[0][:200]
    return text if own else f"{type(error).__name__}: {text}"
