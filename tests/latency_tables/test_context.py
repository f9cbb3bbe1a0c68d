"""The step from the sum of cells to a network's latency, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import latency_tables
from latency_tables import Context
from latency_tables.context import NO_CONTEXT, fit_context

from .fakes import FakeEngine, FakeSource, spec, stairs

near_one = st.floats(0.8, 1.25)
contexts = st.builds(
    Context,
    near_one,
    st.floats(-0.2, 0.2),
    st.floats(0.1, 100),
    st.lists(st.tuples(st.floats(0.1, 100), near_one), max_size=4).map(
        lambda pairs: tuple((s, s * ratio) for s, ratio in pairs)
    ),
)


@given(contexts, st.floats(0.01, 1000))
def test_a_budget_for_the_total_is_one_for_the_sum(context, total):
    """Where checks disagree so much that no sum gives the total, the plain sum is the answer."""
    back = context.total_ms(context.sum_ms(total))
    plain = Context(context.factor, context.slope, context.reference_ms)
    assert back == pytest.approx(total, rel=1e-6) or context.sum_ms(total) == plain.sum_ms(total)
    if not context.checks:
        assert back == pytest.approx(total)


def test_a_check_rules_near_it_and_nowhere_else():
    context = Context(1.0, 0.0, 10.0, checks=((5.0, 5.5),))
    assert context.total_ms(5.0) == pytest.approx(5.5, rel=0.01)
    assert context.total_ms(10.0) == pytest.approx(10.0, rel=0.01)
    assert context.sum_ms(5.5) == pytest.approx(5.0, rel=0.01)


def test_a_power_law_is_found_through_noise_and_outliers():
    random = np.random.default_rng(0)
    sums = np.exp(random.uniform(-1.5, 0.1, 60)) * 8.0
    measured = 1.05 * 8.0 * (sums / 8.0) ** 1.1 * np.exp(0.01 * random.standard_normal(60))
    measured[:4] *= 1.5
    context = fit_context(list(zip(sums, measured, strict=True)), 8.0)
    assert context.factor == pytest.approx(1.05, abs=0.01)
    assert context.slope == pytest.approx(0.1, abs=0.015)
    assert fit_context([(1.0, 2.0)] * 3, 8.0) == NO_CONTEXT  # too few to tell


def test_a_device_whose_layers_slow_each_other_down_is_predicted():
    """Every kernel of a network takes longer by a power of the network's own total."""

    class Crowded(FakeEngine):
        def build(self, probe):
            alone = sum(stairs(sizes) for sizes in probe.sizes.values())
            session = super().build(probe)
            session.engine = FakeEngine(latency=lambda s: stairs(s) * alone**0.15)
            return session

    source, engine = FakeSource(), Crowded()
    table = latency_tables.measure(source, engine, probes=40)
    assert table.context(source).slope > 0.05
    random, off, plain = np.random.default_rng(1), [], []
    for _ in range(30):
        level = random.uniform(0.2, 1.0)
        widths = [
            int(np.clip(round(level * 96 / 8 + random.normal()) * 8, 8, 96)) for _ in range(5)
        ]
        cells = [(spec(i // 2), (widths[i], widths[i + 1])) for i in range(4)]
        alone = sum(stairs(sizes) for _, sizes in cells)
        truth = alone**1.15 + 0.02 * 5
        network = table.readings[0].network
        off.append(table.predict_total(cells, network) / truth - 1)
        plain.append(table.predict_total(cells) / truth - 1)
    assert np.median(np.abs(off)) < 0.02
    assert np.median(np.abs(off)) < 0.7 * np.median(np.abs(plain))
    back = table.uncut_ms(source)
    assert back == table.total_ms(table.readings[0])
