"""Documents that hypothesis changes here and there: taken as they are, or refused in one line."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import torch
import yaml
from hypothesis import strategies as st

from . import commands
from .cases import Case, Result, judge_refusal
from .hostile import seal_state
from .scene import RUN, Scene

TOGETHER = 50
"""Documents that one process is given."""
LIMIT_S = 600.0
Check = Callable[[Any], object]
"""Reads a changed document; raises where it is neither taken nor refused."""

_SPECIAL: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e308, 1e-320,
     math.inf, -math.inf, math.nan, "", " ", ".", "..", "../x", "/", "\0", "\ud800", "\u202e",
     "nan", "1e999", "a" * 5000, [], {}, [[]], [None], {"": None}, {"a": {"a": {}}}]
)  # fmt: skip
VALUES = st.one_of(
    _SPECIAL,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner,
                                                                     max_size=3),
        max_leaves=6,
    ),
)  # fmt: skip
"""Any JSON, and what programs stumble over."""


@st.composite
def change(draw: st.DrawFn, document: Any) -> Any:
    """Draw a document with one to three values replaced, taken out, doubled or put elsewhere."""
    result = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_walk(result))
        if not places:
            return draw(VALUES)
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.integers(0, 5)):
            case 0:
                del holder[key]
            case 1:
                other, name = places[draw(st.integers(0, len(places) - 1))]
                with contextlib.suppress(KeyError, IndexError):
                    holder[key] = copy.deepcopy(other[name])
            case 2 if isinstance(holder, dict):
                holder[draw(st.text(max_size=6))] = holder.pop(key)
            case 3 if isinstance(holder, list):
                holder.insert(draw(st.integers(0, len(holder))), copy.deepcopy(holder[key]))
            case _:
                holder[key] = draw(VALUES)
    return result


def _walk(content: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every holder in a document with each of its keys or positions."""
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(
        content, list) else ()  # fmt: skip
    for key in list(keys):
        yield content, key
        yield from _walk(content[key])


def list_cases(scene: Scene, examples: int, seed: int) -> list[Case]:
    """Return the cases: of every kind of document so many examples, some at a time."""
    kinds: dict[str, Callable[[Scene, Path], tuple[Any, Check]]] = {
        "configuration": _fuzz_config,
        "plan.json": _fuzz_plan,
        "latency.json": _fuzz_table,
        "latency.journal": _fuzz_journal,
        "problem": _fuzz_problem,
        "graph": _fuzz_graph,
        "run.json": _fuzz_state,
        "metrics.json": _fuzz_metrics,
    }
    found: list[Case] = []
    for kind, prepare in kinds.items():
        for start in range(0, examples, TOGETHER):
            count = min(TOGETHER, examples - start)
            attempt = functools.partial(_attempt, scene, prepare, count, seed + start)
            found.append(Case("fuzz", len(found), f"{kind}, {TOGETHER} documents a case", attempt))
    return found


def _attempt(
    scene: Scene,
    prepare: Callable[[Scene, Path], tuple[Any, Check]],
    count: int,
    seed: int,
    place: Path,
) -> Result:
    place.mkdir(parents=True)

    def work() -> None:
        document, check = prepare(scene, place)
        strategy = document if isinstance(document, st.SearchStrategy) else change(document)

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=count, deadline=None, database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )  # fmt: skip
        @hypothesis.given(strategy)
        def attempt(changed: Any) -> None:
            check(changed)

        attempt()

    said = commands.call(work, place, LIMIT_S)
    failure = judge_refusal(said)
    if said.code == 0 and failure is None:
        return Result.survive("taken or refused")
    return Result.fail(f"exit {said.code}: {said.err[-1800:]}")


def refuse_quietly(work: Callable[[], Any]) -> Any:
    """Return what work gives; None where it refuses in one of the families of errors."""
    from latency_tables import LatencyError
    from pruner import PrunerError
    from solver import SolverError

    try:
        return work()
    except (PrunerError, LatencyError, SolverError) as error:
        assert "\n" not in " ".join(str(error).split()) and str(error).strip()
        return None


def call_main(*arguments: str) -> None:
    """Run a command in this process; it ends as msprune ends: with 0, or one line and 2."""
    from pruner.run import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    lines = [x for x in err.getvalue().splitlines() if x.startswith("msprune: ") and "warning: "
             not in x]  # fmt: skip
    assert code in (0, 2) and len(lines) == (code == 2), f"{code}: {err.getvalue()}"


def _fuzz_config(scene: Scene, place: Path) -> tuple[Any, Check]:
    from pruner.run import Config
    from pruner.utils import digest_json

    content = {
        "model": "demo:resnet20", "out": "RUN", "budgets": ["70%", "12ms"], "seed": 3,
        "data": "data", "input": "1x3x32x32", "arguments": {"a": 1, "b": [1, 2]},
        "task": {"name": "classification", "workers": 0}, "submodule": ["a", "b"],
        "measure": {"engine": "onnxruntime", "threads": 2, "probes": 7, "quick": True},
        "score": {"criterion": "taylor", "images": 12},
        "solve": {"also": ["macs=50%"], "keep": ["a*"], "min_width": {"b": 8}, "margin": 0.1,
                  "time_limit_s": 10.0},
        "rounds": {"count": 2, "epochs": 1},
        "finetune": {"epochs": 3, "lr": 0.01, "optimizer": "sgd", "clip": 1.0},
    }  # fmt: skip
    file = place / "config.yaml"

    def check(changed: Any) -> None:
        text = changed if isinstance(changed, str) else yaml.safe_dump(changed)
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        config = refuse_quietly(lambda: Config.from_yaml(file))
        if config is None:
            call_main("run", str(file), "--out", "/dev/null/RUN")
        else:
            again = Config.from_dict(json.loads(json.dumps(config.to_dict())))
            assert digest_json(again.to_dict()) == digest_json(config.to_dict())

    return change(content) | st.text(max_size=60), check


def _load_net(scene: Scene) -> Any:
    import sys

    import pruner

    sys.path.insert(0, str(scene.work))
    module = __import__("tiny_network").make().eval()
    return pruner.trace(module, (torch.zeros(1, 3, 16, 16),))


def _fuzz_plan(scene: Scene, place: Path) -> tuple[Any, Check]:
    import pruner

    net = _load_net(scene)
    content = json.loads(pruner.Plan.random(net, seed=1).to_json())

    def check(changed: Any) -> None:
        def use() -> None:
            plan = pruner.Plan.from_json(json.dumps(changed))
            assert pruner.Plan.from_json(plan.to_json()) == plan
            small = pruner.apply(net, plan)
            assert torch.isfinite(small(torch.zeros(2, 3, 16, 16))).all()

        refuse_quietly(use)

    return content, check


def _fuzz_table(scene: Scene, place: Path) -> tuple[Any, Check]:
    from latency_tables import LatencyTable

    source = scene.place("tuned") / RUN
    content = json.loads((source / "latency.json").read_text(encoding="utf-8"))
    (place / "latency.parquet").write_bytes((source / "latency.parquet").read_bytes())
    net = _load_net(scene)
    cells = [(cell.spec, cell.dense_sizes) for cell in net.cells()]

    def check(changed: Any) -> None:
        if isinstance(changed, dict):
            changed.pop("header_sha256", None)
            import hashlib

            text = json.dumps(changed, sort_keys=True)
            changed["header_sha256"] = hashlib.sha256(text.encode()).hexdigest()
        (place / "latency.json").write_text(json.dumps(changed), encoding="utf-8")

        def use() -> None:
            table = LatencyTable.load(place)
            assert np.isfinite(table.predict_total(cells)) and str(table.device)

        refuse_quietly(use)

    return content, check


def _fuzz_journal(scene: Scene, place: Path) -> tuple[Any, Check]:
    from latency_tables import engine
    from latency_tables.regression.journal import Journal

    file = scene.place("half measured") / RUN / "latency.journal"
    content = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()[:3]]
    for row in content[1:]:
        row.pop("seal", None)  # as one of before that was edited
    device = engine("onnxruntime").device

    def check(changed: Any) -> None:
        rows = changed if isinstance(changed, list) else [changed]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (place / "latency.journal").write_text(text, encoding="utf-8")
        refuse_quietly(lambda: Journal(place, device).readings)

    return content, check


def _fuzz_problem(scene: Scene, place: Path) -> tuple[Any, Check]:
    import solver

    content = {
        "name": "p", "options": {"a": 3, "b": 2, "c": 4},
        "tables": [
            {"name": "t0", "scope": ["a", "b"], "value": [[0, 1], [2, 3], [4, None]],
             "cost": {"ms": [[1.0, 2.0], [3, 4], [5, 6]]}},
            {"name": "t1", "scope": ["c"], "value": None, "cost": {"ms": [0, 1, 2, 3], "mb": 2}},
            {"name": "t2", "scope": [], "value": 1.5, "cost": {}},
        ],
        "budgets": {"ms": 6.0, "mb": 7},
    }  # fmt: skip

    def check(changed: Any) -> None:
        def use() -> None:
            text = json.dumps(changed)
            if not text.startswith("{"):
                (place / "problem.json").write_text(text, encoding="utf-8")
                text = str(place / "problem.json")
            problem = solver.Problem.from_json(text)
            answer = solver.solve(problem, time_limit_s=2.0)
            if answer.choice is not None:
                value, cost = problem.evaluate(answer.choice)
                assert all(cost[r] <= limit * (1 + 1e-6) + 1e-9 for r, limit in
                           problem.budgets.items())  # fmt: skip

        refuse_quietly(use)

    return content, check


def _fuzz_graph(scene: Scene, place: Path) -> tuple[Any, Check]:
    import pruner
    from pruner.utils import read_tensors, write_tensors

    source = scene.place("tuned") / RUN / "model.safetensors"
    tensors, header = read_tensors(source, "network")
    file = place / "model.safetensors"

    def check(changed: Any) -> None:
        write_tensors(file, "network", tensors, changed)
        refuse_quietly(lambda: pruner.load(place))

    return header, check


def _fuzz_state(scene: Scene, place: Path) -> tuple[Any, Check]:
    run = scene.copy("solved", place / "copy")
    content = json.loads((run / "run.json").read_text(encoding="utf-8"))
    content.pop("seal")

    def check(changed: Any) -> None:
        state = seal_state(changed) if isinstance(changed, dict) else changed
        (run / "run.json").write_text(json.dumps(state), encoding="utf-8")
        for words in (("report", str(run)), ("compare", str(run)),
                      ("finetune", str(run), "--epochs", "0"),
                      ("solve", str(run), "--pick", "2")):  # fmt: skip
            call_main(*words)

    return content, check


def _fuzz_metrics(scene: Scene, place: Path) -> tuple[Any, Check]:
    import hashlib

    run = scene.copy("tuned", place / "copy")
    content = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    state = json.loads((run / "run.json").read_text(encoding="utf-8"))
    state.pop("seal")

    def check(changed: Any) -> None:
        text = json.dumps(changed).encode()
        (run / "metrics.json").write_bytes(text)
        state["files"]["metrics.json"] = [hashlib.sha256(text).hexdigest()]
        (run / "run.json").write_text(json.dumps(seal_state(state)), encoding="utf-8")
        call_main("report", str(run))
        call_main("compare", str(run))

    return content, check
