"""The accuracy benchmark: what to ask of the table until a structure measures what was asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.accuracy import CORRECTIONS, next_aim


@given(st.floats(0.1, 0.9), st.floats(0.6, 1.6), st.floats(0.85, 1.15))
def test_the_bracket_closes_on_a_device_that_the_table_misjudges(share, power, factor):
    """The device says factor * aim ** power where the table says aim."""
    seen = {}
    aim = share
    for _ in range(CORRECTIONS + 1):
        seen[aim] = factor * aim**power
        aim = next_aim(seen, share)
    assert min(abs(ratio - share) for ratio in seen.values()) < 0.01 * share


@given(st.floats(0.2, 0.8), st.floats(0.05, 0.2))
def test_a_cliff_is_not_jumped_over_for_ever(share, height):
    """Nothing measures between the two sides of a cliff: the bracket around it gets narrow."""
    cliff = 0.97 * share
    seen = {}
    aim = share
    for _ in range(CORRECTIONS + 1):
        seen[aim] = aim if aim < cliff else aim + height
        aim = next_aim(seen, share)
    below = max(a for a, ratio in seen.items() if ratio <= share)
    assert cliff - below < 0.1 * share
