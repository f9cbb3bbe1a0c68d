"""Any samples in the one order: resumed, sharded, in workers, broken, joined."""

from __future__ import annotations

import os
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pruner.data import Batches, SampleData, Samples, collate, open_images
from pruner.data.order import EpochOrder
from pruner.errors import PrunerError, PrunerWarning

from ..small import image_folder


@dataclass(frozen=True)
class Numbers(Samples):
    """Row k is the number k and what its generator draws; some rows are broken."""

    count: int = 21
    broken: frozenset[int] = frozenset()
    fault: type[Exception] = PrunerError

    def __len__(self):
        return self.count

    def read(self, row, rng):
        if row in self.broken:
            raise self.fault(f"number {row} is broken")
        return torch.tensor([row, 0.0 if rng is None else rng.random()]), row

    def fingerprint(self):
        return str(self)


def make(workers=0, on_error="raise", **named):
    return SampleData("here", Numbers(**named), Numbers(**named), (), (), workers, on_error)


def rows_of(batches):
    return [targets.tolist() for _, targets in batches]


def same(left, right):
    left, right = list(left), list(right)
    return len(left) == len(right) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("start", [0, 2, 4])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_be_taken_up_anywhere(start, workers):
    whole = list(make().train(5, seed=3).epoch(2))
    assert len(whole) == len(make().train(5)) == 4
    assert same(whole[start:], make(workers).train(5, seed=3).epoch(2, start))
    assert not same(whole, make().train(5, seed=3).epoch(1))
    assert not same(whole, make().train(5, seed=4).epoch(2))
    assert len({float(x) for values, _ in whole for x in values[:, 1]}) == 20


def test_the_order_is_the_image_folders(tmp_path):
    image_folder(tmp_path, images=7)
    files = open_images(tmp_path, 8)._train
    for shuffle, limit, batch in [(True, None, 4), (True, 10, 3), (False, 5, 4), (True, 3, 8)]:
        batches = Batches(files, batch, shuffle=shuffle, seed=1, limit=limit)
        order = EpochOrder(21, batch, shuffle, 1, limit)
        labels = [files.labels[rows].tolist() for rows in order.list_batches(2)]
        assert labels == [y.tolist() for _, y in batches.epoch(2)] and len(batches) == len(order)


def test_processes_share_every_batch_out():
    whole = rows_of(make().train(6, seed=2))
    parts = [rows_of(make().train(6, seed=2, shard=(rank, 4))) for rank in range(4)]
    for k, rows in enumerate(whole):
        assert [part[k] for part in parts] == [rows[rank::4] for rank in range(4)]
    tested = [rows_of(make().test(4, shard=(rank, 4))) for rank in range(4)]
    assert sorted(sum(sum(tested, []), [])) == list(range(21))
    with pytest.raises(PrunerError, match="batch: expected at least one sample for each of 8"):
        make().train(4, shard=(0, 8))
    with pytest.raises(PrunerError, match="3 samples cannot be shared by 4 processes"):
        make().train(8, limit=3, shard=(0, 4))


def test_a_limit_and_incomplete_batches():
    assert [len(rows) for rows in rows_of(make().test(8))] == [8, 8, 5]
    first, second = (sorted(sum(rows_of(make().train(5, limit=10).epoch(e)), [])) for e in (0, 1))
    assert first == second and len(first) == 10
    assert [len(rows) for rows in rows_of(make().train(64))] == [21]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fault", [PrunerError, RuntimeError])
def test_a_broken_sample_is_named(workers, fault):
    with pytest.raises(PrunerError, match="number 7 is broken") as caught:
        list(make(workers, broken=frozenset({7}), fault=fault).test(4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_samples_are_skipped_on_request(workers):
    data = make(workers, "skip", broken=frozenset({0, 7, 8}))
    assert not data.notes
    with pytest.warns(PrunerWarning, match="here: skipped: number"):
        trained = rows_of(data.train(5, seed=1))
    assert [len(rows) for rows in trained] == [5] * 4 and not {0, 7, 8} & set(sum(trained, []))
    assert rows_of(data.train(5, seed=1).epoch(0, 2)) == trained[2:]
    assert sum(rows_of(data.test(4)), []) == [k for k in range(21) if k not in (0, 7, 8)]
    assert "3 samples of here were skipped (first number" in data.notes[0]
    with pytest.warns(PrunerWarning), pytest.raises(PrunerError, match="no sample of a whole"):
        list(make(0, "skip", broken=frozenset(range(21))).train(5))
    with pytest.raises(PrunerError, match="on_error: expected raise or skip, got 'never'"):
        make(0, "never")


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_are_not_changed_are_read_once(tmp_path, workers):
    @dataclass(frozen=True)
    class Counted(Numbers):
        def read(self, row, rng):
            with open(tmp_path / "reads", "a") as log:
                log.write("x")
            return super().read(row, rng)

    def count_reads():
        return len((tmp_path / "reads").read_text())

    data = SampleData("here", Counted(), Counted(), (), (), workers)
    first = list(data.test(8))
    next(iter(data.test(8)))[0].zero_()  # a copy
    assert same(first, data.test(8)) and same(first[1:], data.test(8).epoch(0, 1))
    assert count_reads() == 21
    list(data.test(5))
    limited = [list(data.train(5, augment=False, limit=10)) for _ in range(3)]
    assert same(limited[0], limited[2]) and count_reads() == 21 + 21 + 10
    assert not same(data.train(5), data.train(5).epoch(1)) and count_reads() == 52 + 40
    small = SampleData("here", Counted(), Counted(), (), (), workers, cache_mb=0)
    assert same(small.test(8), small.test(8)) and count_reads() == 92 + 42


def test_data_without_test_samples_says_so():
    with pytest.raises(PrunerError, match="here: no samples to test on"):
        SampleData("here", Numbers()).test()
    with pytest.raises(PrunerError, match="here: no samples to train on"):
        SampleData("here", Numbers(count=0))


def test_a_process_that_ends_is_one_line():
    @dataclass(frozen=True)
    class Deadly(Numbers):
        def read(self, row, rng):
            os._exit(1)

    with pytest.raises(
        PrunerError, match="here: reading in 1 processes failed .*workers=0"
    ) as caught:
        list(SampleData("here", Deadly(), None, (), (), 1).train(5))
    assert "\n" not in str(caught.value)


def test_samples_are_joined_leaf_by_leaf():
    Point = namedtuple("Point", "x y")
    joined = collate([
        {"a": torch.ones(2), "b": (1, 2.5), "c": [np.ones(k), "x"], "d": "word", "e": None,
         "f": Point(np.arange(2), torch.zeros(k)), "g": np.ones(3, ">f8")}
        for k in (1, 2)
    ])  # fmt: skip
    assert joined["a"].shape == (2, 2) and joined["g"].dtype == torch.float32
    assert joined["b"][0].tolist() == [1, 1] and joined["b"][0].dtype == torch.int64
    assert joined["b"][1].dtype == torch.float32 and joined["c"][1] == ["x", "x"]
    assert joined["d"] == ["word", "word"] and joined["e"] is None
    assert isinstance(joined["f"], Point) and joined["f"].x.shape == (2, 2)
    assert [one.shape for one in joined["f"].y] == [(1,), (2,)]  # ragged
    assert collate([{"a": 1}, {"b": 1}]) == [{"a": 1}, {"b": 1}]
    assert collate([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert [one.tolist() for one in collate([[1], [1, 2]])] == [[1], [1, 2]]
    assert collate([["a", torch.ones(2)]] * 3)[1].shape == (3, 2)
