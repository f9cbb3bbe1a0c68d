"""Backward elimination against least squares done anew for every set of columns."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruner.importance.obs import LinearReader, eliminate


def _reader(seed: int, size: int, columns: int, outputs: int = 3, rows: int = 50) -> LinearReader:
    dice = torch.Generator().manual_seed(seed)
    mixed = torch.randn(size * columns, size * columns, generator=dice, dtype=torch.float64)
    x = torch.randn(rows, size * columns, generator=dice, dtype=torch.float64) @ mixed
    weight = torch.randn(outputs, size * columns, generator=dice, dtype=torch.float64)
    owner = np.repeat(np.arange(size), columns)
    return LinearReader(weight, x.T @ x / rows, owner)


def _error(reader: LinearReader, kept: list[int]) -> float:
    """The least error with the kept columns alone, straight from the normal equations."""
    columns = torch.from_numpy(np.flatnonzero(np.isin(reader.owner, kept)))
    gram, weight = reader.gram, reader.weight
    refit = torch.linalg.lstsq(gram[columns][:, columns], gram[columns] @ weight.T).solution
    lost = torch.zeros_like(weight)
    lost[:, columns] = refit.T
    lost -= weight
    return float(((lost @ gram) * lost).sum())


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(2, 7), st.integers(1, 3))
def test_errors_and_weights_are_those_of_a_new_fit_at_every_size(seed, size, columns):
    readers = [_reader(seed, size, columns), _reader(seed + 1, size, 1)]
    sizes = range(1, size)
    found = eliminate(readers, size, sizes, refit_sizes=sizes, ridge=1e-12)
    assert sorted(found.order) == list(range(size)) and found.errors[size] == 0
    for n in sizes:
        kept = found.order[size - n :].tolist()
        expected = sum(_error(reader, kept) for reader in readers)
        assert found.errors[n] == pytest.approx(expected, rel=1e-3, abs=1e-6)
        for reader, weight in zip(readers, found.weights[n], strict=True):
            lost = weight - reader.weight
            gone = ~np.isin(reader.owner, kept)
            assert not weight[:, torch.from_numpy(np.flatnonzero(gone))].any()
            assert float(((lost @ reader.gram) * lost).sum()) == pytest.approx(
                _error(reader, kept), rel=1e-3, abs=1e-6
            )


def test_a_repeated_channel_goes_first_and_costs_nothing():
    reader = _reader(0, 5, 1)
    for tensor in (reader.gram,):
        tensor[4], tensor[:, 4] = tensor[2].clone(), tensor[:, 2].clone()
        tensor[4, 4] = tensor[2, 2]
    found = eliminate([reader], 5, [4], refit_sizes=[4], ridge=1e-9)
    assert found.order[0] in (2, 4) and found.errors[4] < 1e-4


def test_of_one_index_the_best_is_found():
    reader = _reader(3, 6, 2)
    found = eliminate([reader], 6, range(1, 6), ridge=1e-12)
    best = min(_error(reader, list(kept)) for kept in itertools.combinations(range(6), 5))
    assert found.errors[5] == pytest.approx(best, rel=1e-4)


def test_a_ridge_is_chosen_for_few_observations():
    """With fewer observations than columns a refit by heart loses to a held-out choice."""
    few, other = _reader(0, 30, 1, rows=20), _reader(0, 30, 1, rows=4000)
    chosen = eliminate([LinearReader(few.weight, few.gram, few.owner, other.gram)], 30, [15], [15])
    bold = eliminate([few], 30, [15], [15], ridge=1e-9)
    errors = []
    for found in (chosen, bold):
        lost = found.weights[15][0] - few.weight
        errors.append(float(((lost @ other.gram) * lost).sum()))
    assert errors[0] < errors[1]


@pytest.mark.parametrize("seed", range(4))
def test_in_a_given_order_errors_are_those_of_a_new_fit_too(seed: int) -> None:
    readers = [_reader(seed, 6, 2), _reader(seed + 1, 6, 1)]
    order = np.random.default_rng(seed).permutation(6)
    found = eliminate(readers, 6, (1, 2, 4), refit_sizes=(2,), ridge=1e-12, order=order)
    assert found.order.tolist() == order.tolist()
    for n in (1, 2, 4):
        expected = sum(_error(reader, order[6 - n :].tolist()) for reader in readers)
        assert found.errors[n] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    for reader, weight in zip(readers, found.weights[2], strict=True):
        assert not weight[:, torch.from_numpy(np.isin(reader.owner, order[:4]))].any()
