"""Budgets: as they are written, and in milliseconds."""

from __future__ import annotations

import math

import pytest

from pruner import PrunerError
from pruner.problem import Budget


@pytest.mark.parametrize(
    ("text", "expected_ms"), [("50%", 10.0), ("12ms", 12.0), (" 12.0 ms ", 12.0), ("400fps", 10.0)]
)
def test_budget_in_milliseconds(text: str, expected_ms: float) -> None:
    assert Budget.parse(text).to_ms(dense_ms=20.0, batch=4) == pytest.approx(expected_ms)


@pytest.mark.parametrize("text", ["", "50", "-5%", "0ms", "fast", "12 s", "nan%", "1e999ms", "5%%"])
def test_malformed_budgets(text: str) -> None:
    with pytest.raises(PrunerError, match="cannot read budget"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["120%", "21ms", "10fps"])
def test_budgets_above_dense_say_so(text: str) -> None:
    with pytest.raises(PrunerError, match="above the dense network's 20 ms"):
        Budget.parse(text).to_ms(dense_ms=20.0, batch=1)


def test_budget_folder_names() -> None:
    assert [Budget.parse(t).slug for t in ("70%", "12.5ms", "80fps")] == ["70", "12.5ms", "80fps"]


def test_a_number_is_milliseconds_and_to_the_last_digit() -> None:
    third = 1 / 3
    assert Budget.coerce(third).to_ms(dense_ms=1.0, batch=8) == third
    assert Budget.coerce("12ms") == Budget.coerce(12) == Budget.coerce(Budget(12.0, "ms"))


@pytest.mark.parametrize("number", [0, -3.0, math.nan, math.inf])
def test_numbers_that_are_no_budget(number: float) -> None:
    with pytest.raises(PrunerError, match="cannot read budget"):
        Budget.coerce(number)
