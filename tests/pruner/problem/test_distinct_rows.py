"""The different rows of several arrays, against ``numpy.unique`` over all of them."""

from __future__ import annotations

import numpy as np
import pytest

from pruner.problem.latency import find_distinct_rows


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("spread", [4, 1000])
def test_rows_are_those_of_the_broadcast_arrays(seed, spread):
    rng = np.random.default_rng(seed)
    full = tuple(rng.integers(1, 6, rng.integers(0, 4)))
    shapes = [tuple(n if rng.random() < 0.6 else 1 for n in full) for _ in range(1 + seed % 3)]
    grids = [rng.integers(0, spread, shape) for shape in shapes]
    rows, place = find_distinct_rows(grids)
    alike = np.broadcast_arrays(*grids)
    expected, where = np.unique(
        np.stack([grid.ravel() for grid in alike], axis=1), axis=0, return_inverse=True
    )
    assert (rows == expected).all()
    assert place.shape == alike[0].shape and (place.ravel() == where.ravel()).all()
