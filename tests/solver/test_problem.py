"""Malformed input is refused at the door, by name; JSON goes round."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import solver
from solver import BudgetError, MethodError, Problem, ProblemError, Table

from .problems import random_problem


def problem(**changes) -> Problem:
    parts = {
        "name": "p",
        "options": {"a": 2, "b": 3},
        "tables": [Table("t", ("a", "b"), np.ones((2, 3)), {"ms": np.ones((2, 3))})],
        "budgets": {"ms": 1.0},
    }
    return Problem(**{**parts, **changes})


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Table("t", ("a", "a")), ProblemError, "names a twice"),
        (lambda: Table("t", "ab"), ProblemError, "tuple of variable names"),
        (lambda: Table("t", ("a",), np.array([1.0, np.nan])), ProblemError, r"NaN at \[1\]"),
        (lambda: Table("t", ("a",), np.array([1.0, np.inf])), ProblemError, r"\+inf"),
        (lambda: Table("t", ("a",), None, {"ms": np.array([np.inf])}), ProblemError, "infinite"),
        (lambda: Table("t", ("a",), None, {"ms": np.array([np.nan])}), ProblemError, "'ms'.*NaN"),
        (lambda: Table("t", ("a",), "no"), ProblemError, "not a numeric array"),
        (lambda: problem(options={"a": 2}), ProblemError, "unknown variable 'b'"),
        (lambda: problem(options={"a": 2, "b": 0}), ProblemError, "'b'.*at least 1"),
        (lambda: problem(options={"a": 2, "b": 2.5}), ProblemError, "'b'.*integer"),
        (lambda: problem(options={"a": 2, "b": 4}), ProblemError, r"\[2, 3\].*\[2, 4\]"),
        (lambda: problem(tables=[Table("t", ()), Table("t", ())]), ProblemError, "twice"),
        (lambda: problem(tables=["t"]), ProblemError, "solver.Table"),
        (lambda: problem(budgets={"ms": -1.0}), BudgetError, "negative"),
        (lambda: problem(budgets={"ms": float("nan")}), BudgetError, "finite"),
        (lambda: problem(budgets={"mb": 1.0}), BudgetError, "'mb'.*known: ms"),
        (lambda: problem(budgets={"ms": "1"}), BudgetError, "must be a number"),
        (lambda: solver.solve(problem(), "magic"), MethodError, "magic.*auto"),
        (lambda: solver.solve(problem(), budgets={"ms": -2.0}), BudgetError, "negative"),
        (lambda: solver.solve(problem(), gap=-1), MethodError, "gap"),
        (lambda: solver.solve(problem(), time_limit_s=0), MethodError, "time_limit_s"),
        (lambda: solver.solve("p"), ProblemError, "solver.Problem"),
        (lambda: solver.frontier(problem(), [-1.0]), BudgetError, "negative"),
        (lambda: solver.frontier(problem(), [{"mb": 1.0}]), BudgetError, "must limit ms"),
        (lambda: solver.envelope(problem(budgets={})), ProblemError, "one budgeted resource"),
        (lambda: problem().evaluate({"a": 0}), ProblemError, "leaves out variable 'b'"),
        (lambda: problem().evaluate({"a": 0, "b": 3}), ProblemError, "options 0 to 2"),
        (lambda: Problem.from_json("{"), ProblemError, "not JSON"),
        (lambda: Problem.from_json("no such file.json"), ProblemError, "cannot be read"),
        (lambda: Problem.from_json('{"tables": []}'), ProblemError, "'options' is missing"),
    ],
)
def test_misuse_is_refused_by_name(make, error, says):
    with pytest.raises(error, match=says) as caught:
        make()
    assert isinstance(caught.value, solver.SolverError)


def test_brute_force_refuses_the_impossible():
    many = Problem("many", {f"v{i}": 10 for i in range(30)}, [], {})
    with pytest.raises(MethodError, match="1e.30 choices"):
        solver.solve(many, "brute_force")


def make_document(**changes) -> str:
    parts = {
        "name": "p",
        "options": {"a": 2},
        "tables": [{"name": "t", "scope": ["a"], "value": [1, 2], "cost": {"ms": [1, 2]}}],
        "budgets": {"ms": 1},
    }
    return json.dumps({**parts, **changes})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (make_document(tables=[{"name": "t", "scope": ["z"]}]), "unknown variable 'z'"),
        (make_document(tables=[{"name": "t"}]), "table 0"),
        (make_document(tables=[{"name": "t", "scope": ["a"], "value": [[1], [2, 3]]}]), "'t'"),
        (make_document(budgets={"ms": -3}), "negative"),
        (make_document(extra=1), "unknown key 'extra'"),
        (make_document().replace("[1, 2]", "[1, NaN]"), "NaN"),
        (make_document().replace('"ms": [1, 2]', '"ms": [1, Infinity]'), "Infinity"),
        ("[1]", "not list|cannot be read"),
    ],
)
def test_malformed_json_is_refused_by_name(text, says):
    with pytest.raises(ProblemError, match=says):
        Problem.from_json(text)


def is_same(one: Problem, other: Problem) -> bool:
    def plain(p: Problem):
        tables = [
            (t.name, t.scope, None if t.value is None else t.value.tolist())
            + tuple((r, c.tolist()) for r, c in t.cost.items())
            for t in p.tables
        ]
        return p.name, dict(p.options), dict(p.budgets), tables

    return plain(one) == plain(other)


def test_json_and_pickle_go_round(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(50):
        given = random_problem(rng)
        given.to_json(tmp_path / "p.json")
        assert is_same(given, Problem.from_json(tmp_path / "p.json"))
        assert is_same(given, Problem.from_json(given.to_json()))
        assert is_same(given, pickle.loads(pickle.dumps(given)))


def test_null_is_inadmissible():
    text = make_document(
        tables=[{"name": "t", "scope": ["a"], "value": [1, None], "cost": {"ms": 0}}]
    )
    read = Problem.from_json(text)
    assert read.tables[0].value.tolist() == [1.0, -np.inf]
    assert "null" in read.to_json()
    assert solver.solve(read).choice == {"a": 0}


def test_solve_changes_nothing_it_was_given():
    array = np.arange(6.0).reshape(2, 3)
    before = array.copy()
    given = problem(tables=[Table("t", ("a", "b"), array, {"ms": array})])
    solver.solve(given)
    assert (array == before).all() and array.flags.writeable
    assert not given.tables[0].value.flags.writeable
    with pytest.raises(TypeError):
        given.options["a"] = 5


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"a": 10**400}}, {"options": {"a": 2.5}}, {"options": {"a": None}},
        {"budgets": {"ms": 10**400}}, {"budgets": {"ms": "1"}},
        {"tables": [{"scope": ["a"], "value": [0, 10**400]}]},
        {"tables": [{"scope": ["a"], "cost": {"ms": [0, 10**400]}}]},
        {"tables": [{"scope": ["a"], "cost": {"ms": [[0], [1, 2]]}}]},
        {"tables": [{"scope": ["a"], "cost": [1]}]},
        {"tables": [{"scope": [["a"]], "cost": {}}]},
        {"tables": [{"name": [], "scope": ["a"], "cost": {}}]},
        {"name": {"a": 1}},
    ],
)  # fmt: skip
def test_numbers_and_kinds_that_no_problem_has_are_refused(change):
    whole = {"name": "p", "options": {"a": 2}, "budgets": {"ms": 1},
             "tables": [{"name": "t", "scope": ["a"], "cost": {"ms": [0, 1]}}]}  # fmt: skip
    with pytest.raises(solver.SolverError):
        solver.Problem.from_json(json.dumps(whole | change))


@pytest.mark.parametrize("text", ['{"a": ' + "9" * 5000 + "}", '{"a": ' + "[" * 100_000])
def test_texts_beyond_reason_are_refused(text):
    with pytest.raises(solver.SolverError, match="not JSON"):
        solver.Problem.from_json(text)
