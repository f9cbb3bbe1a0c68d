"""Layers that are slower in larger networks, and drift that small networks feel less."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import latency_tables
from latency_tables.regression import remove_drift
from latency_tables.regression.size_effect import fit_size_exponents

from ..fakes import OVERHEAD_MS, FakeEngine, FakeSource, spec, stairs


def samples(exponent, count, seed, noise=0.02):
    """Widths [n, 2], milliseconds and totals, which go with the widths as they do in probes."""
    random = np.random.default_rng(seed)
    level = random.uniform(0.3, 1.0, count)
    sizes = np.ceil(12 * level[:, None] ** random.uniform(0.2, 3, (count, 2))) * 8
    totals = 5.0 * level**2 * np.exp(0.2 * random.standard_normal(count))
    ms = np.array([stairs(own) for own in sizes]) * totals**exponent
    return sizes, ms * np.exp(noise * random.standard_normal(count)), totals


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0, 0.4), st.integers(0, 10_000))
def test_exponents_are_found_beside_the_widths_own_effect(exponent, seed):
    own = {spec(0): samples(exponent, 150, seed), spec(1): samples(exponent / 2, 150, seed + 1)}
    found = fit_size_exponents(own, floor_ms=1e-3)
    assert found.find(spec(0)) == pytest.approx(exponent, abs=0.08)
    assert found.find(spec(1)) == pytest.approx(exponent / 2, abs=0.08)
    assert 0.2 * exponent - 0.03 <= found.find(spec(2)) <= exponent + 0.03  # never measured


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 0.5), st.integers(0, 10_000))
def test_wide_layers_say_how_a_kind_of_layer_feels_its_network(exponent, seed):
    """Narrow ones feel it far more, but totals are not made of them."""
    sizes, ms, totals = samples(0.0, 300, seed)
    own = exponent * np.exp(-ms / np.median(ms))
    found = fit_size_exponents({spec(0): (sizes, ms * totals**own, totals)}, floor_ms=1e-3)
    expected = np.average(own, weights=ms**2)
    assert expected < 0.7 * np.mean(own)
    assert found.find(spec(0)) == pytest.approx(expected, abs=0.04)


def test_what_cannot_be_told_is_not_made_up():
    assert fit_size_exponents({}, floor_ms=1e-3).find(spec()) == 0.0
    few = {spec(0): samples(0.3, 8, 0)}
    assert fit_size_exponents(few, floor_ms=1e-3).find(spec(0)) == 0.0
    sizes, ms, totals = samples(0.0, 60, 0)
    alike = {spec(0): (sizes, ms, np.full_like(totals, 3.0))}
    assert fit_size_exponents(alike, floor_ms=1e-3).find(spec(0)) == 0.0


class Crowded(FakeEngine):
    """Every kernel of a network takes longer by a power of the network's own total, those of one
    kind of layer by a greater one."""

    def build(self, probe):
        widths = list(probe.sizes.values())
        session = super().build(probe)
        session.__dict__["_kernels"], _ = crowded(widths)
        return session


EXPONENTS = (0.05, 0.05, 0.3, 0.3)


def crowded(widths):
    alone, total = np.array([stairs(own) for own in widths]), 1.0
    for _ in range(200):
        kernels = alone * total ** np.array(EXPONENTS[: len(widths)])
        total = float(kernels.sum()) + OVERHEAD_MS * (len(widths) + 1)
    return kernels.tolist(), total


def test_a_device_whose_layers_slow_each_other_down_is_predicted():
    source = FakeSource()
    table = latency_tables.measure(source, Crowded(), probes=50)
    small, large = (table.predict(spec(1), [[64, 64]], ms)[0] for ms in (1.0, 4.0))
    assert large / small == pytest.approx(4**0.3, rel=0.05)  # its launch is not slowed down
    small, large = (table.predict(spec(0), [[64, 64]], ms)[0] for ms in (1.0, 4.0))
    assert large / small == pytest.approx(4**0.05, rel=0.05)
    random, off = np.random.default_rng(1), []
    for _ in range(30):  # unlike the probes: some layers uncut in a small network
        widths = [int(w) for w in random.choice((16, 96), 5)]
        cells = [(spec(i // 2), (widths[i], widths[i + 1])) for i in range(4)]
        _, truth = crowded([sizes for _, sizes in cells])
        off.append(table.predict_total(cells, table.readings[0].network) / truth - 1)
    assert np.median(np.abs(off)) < 0.015 and np.max(np.abs(off)) < 0.06


def test_a_total_is_the_sum_of_its_layers_in_a_network_of_that_total():
    table = latency_tables.measure(FakeSource(), Crowded(), probes=40)
    cells = [(spec(0), (32, 64)), (spec(1), (64, 96))]
    total = table.predict_total(cells)
    layers = sum(float(table.predict(own, [sizes], total)[0]) for own, sizes in cells)
    assert total == pytest.approx(table.overhead_ms + layers, rel=1e-6)
    with pytest.raises(latency_tables.LatencyError, match="network_ms"):
        table.predict(spec(0), [[32, 64]], 0.0)


@pytest.mark.parametrize("power, sign", [(0.5, 1), (-0.5, -1)])
def test_drift_that_small_networks_feel_otherwise_is_taken_off_otherwise(power, sign):
    """A machine whose neighbours slow networks down for a while, the large or the small ones most.

    The uncut one by a tenth; others by that times a power of their share of its size.
    """
    builds = itertools.count()  # two a visit

    class Shared(FakeEngine):
        def build(self, probe):
            session = super().build(probe)
            kernels = sum(stairs(sizes) for sizes in probe.sizes.values())
            share = float(np.clip(kernels / uncut_ms, 0.1, 1)) ** power
            run, factor = session.run, 1 + share * 0.1 * ((next(builds) // 6) % 2)
            session.run = lambda: slowed(run(), factor)
            return session

    def slowed(lap, factor):
        return latency_tables.engines.Lap(lap.wall_ms * factor, lap.cpu_ms * factor)

    uncut_ms = sum(stairs((96, 96)) for _ in range(4))
    table = latency_tables.measure(FakeSource(), Shared(), probes=50)
    assert sign * table.drift_attenuation > 0.2
    assert table.error.median < 0.02
    for reading in table.readings:
        steady = remove_drift(reading, reading.reference_ms, table.drift_attenuation)
        assert steady == reading.latency_ms
