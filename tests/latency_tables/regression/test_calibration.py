"""The step from the sum of cells to a network's latency, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import latency_tables
from latency_tables import Calibration
from latency_tables.regression.calibration import IDENTITY, fit_calibration

from ..fakes import FakeEngine, FakeSource

near_one = st.floats(0.8, 1.25)
contexts = st.builds(
    Calibration,
    near_one,
    st.lists(st.tuples(st.floats(0.1, 100), near_one), max_size=4).map(
        lambda pairs: tuple((s, s * ratio) for s, ratio in pairs)
    ),
)


@given(contexts, st.floats(0.01, 1000))
def test_a_budget_for_the_total_is_one_for_the_sum(context, total):
    """Where checks disagree so much that no sum gives the total, the plain sum is the answer."""
    back = context.total_ms(context.sum_ms(total))
    plain = Calibration(context.factor)
    assert back == pytest.approx(total, rel=1e-6) or context.sum_ms(total) == plain.sum_ms(total)
    if not context.checks:
        assert back == pytest.approx(total)


def test_a_check_rules_near_it_and_nowhere_else():
    context = Calibration(1.0, checks=((5.0, 5.5),))
    assert context.total_ms(5.0) == pytest.approx(5.5, rel=0.01)
    assert context.total_ms(10.0) == pytest.approx(10.0, rel=0.01)
    assert context.sum_ms(5.5) == pytest.approx(5.0, rel=0.01)


def test_a_factor_is_found_through_noise_and_outliers():
    random = np.random.default_rng(0)
    sums = np.exp(random.uniform(-1.5, 0.1, 60)) * 8.0
    measured = 1.05 * sums * np.exp(0.01 * random.standard_normal(60))
    measured[:4] *= 1.5
    context = fit_calibration(list(zip(sums, measured, strict=True)))
    assert context.factor == pytest.approx(1.05, abs=0.01)
    assert fit_calibration([(1.0, 2.0)] * 3) == IDENTITY  # too few to tell


def test_budgets_of_a_measured_network_are_of_its_usual_time():
    source = FakeSource()
    table = latency_tables.measure(source, FakeEngine(), probes=12)
    assert table.uncut_ms(source) == pytest.approx(table.total_ms(table.readings[0]))
