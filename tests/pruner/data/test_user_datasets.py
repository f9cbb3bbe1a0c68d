"""Data sets of the user's own: every form of them, in an order that can be repeated."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from pruner.data import Framing, Preprocessing, open_factory
from pruner.errors import PrunerError

HERE = "tests.pruner.data.user_factory:"
HOW = Preprocessing((8, 8), (0.0,) * 3, (1.0,) * 3)


def open_data(name, **named):
    return open_factory(HERE + name, **{"workers": 0} | named)


def flatten(batches):
    return [(inputs.tolist(), targets.tolist()) for inputs, targets in batches]


@pytest.mark.parametrize("name", ["pair", "by_split"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_sets_own_randomness_is_repeated(name, workers):
    data = open_data(name, workers=workers, settings={"count": 13})
    states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
    whole = flatten(data.train(3, seed=1).epoch(2))
    assert len(whole) == 4 and data.classes == ("even", "odd")
    assert (
        flatten(open_data(name, settings={"count": 13}).train(3, seed=1).epoch(2, 2)) == whole[2:]
    )
    assert flatten(data.train(3, seed=1).epoch(1)) != whole
    assert flatten(data.test(3)) == flatten(data.test(3)) and len(data.test(3)) == 2
    noise = [value for inputs, _ in whole for row in inputs for value in row[1:]]
    assert len({*noise}) == len(noise)
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])
    assert np.random.get_state()[1].tolist() == states[2]


def test_dicts_lists_and_tensors():
    data = open_data("named", targets=("y",))
    (inputs, targets), *_ = data.train(4, seed=0)
    assert inputs["x"].shape == (4, 2) and inputs["mask"].tolist() == [[1, 0]] * 4
    assert sorted(targets["y"].tolist()) == [0, 1, 2, 3] and len(data.test(5)) == 1
    (inputs, targets), *_ = open_data("named").train(4)
    assert targets is None and inputs["y"].shape == (4,)
    (inputs, targets), *_ = open_data("tensors").train(12)
    assert inputs.flatten().tolist() == targets.tolist() != list(range(12))
    assert open_data("READY").train(4).order.rows == 12
    (inputs, targets), *_ = open_data("inputs_only").train(12)
    assert inputs.shape == (12, 1) and targets is None
    with pytest.raises(PrunerError, match="sample 0 has no z; found x, mask, y"):
        list(open_data("named", targets=("z",)).train(4, limit=1))


def test_pictures_are_read_as_image_folders_and_masks_are():
    (images, labels), *_ = open_data("pictures", preprocessing=HOW).train(12, seed=1)
    assert images.shape == (12, 3, 8, 8) and sorted(labels.tolist()) == list(range(12))
    assert torch.allclose(images.amax((1, 2, 3)) * 255, labels * 20.0, atol=1e-3)
    framing = Framing("letterbox")
    data = open_data("pictures", preprocessing=HOW, settings={"masks": True}, framing=framing)
    (images, masks), *_ = data.train(12, augment=False)
    assert masks.dtype == torch.int64 and (masks[:, 0] == 255).all()
    assert torch.allclose(images[:, 0, 4] * 255, masks[:, 4] * 20.0, atol=1e-3)
    with pytest.raises(
        PrunerError, match="sample 10 is an image, not a tensor: give .* a transform"
    ):
        list(open_data("pictures").train(12, limit=1, seed=8))


def test_iterables_that_fit_are_kept_and_drawn_in_the_order_of_all():
    data = open_data("stream")
    targets = [t for _, t in flatten(data.train(4, seed=3))]
    drawn = [[row[0] for row in rows] for rows, _ in flatten(open_data("pair").train(4, seed=3))]
    assert targets == drawn
    assert sorted(sum(targets, [])) == list(range(12))
    assert flatten(data.train(4, seed=3).epoch(1, 1)) == flatten(data.train(4, seed=3).epoch(1))[1:]
    assert data.fingerprint() == open_data("stream").fingerprint()
    assert data.fingerprint() != open_data("stream", settings={"count": 11}).fingerprint()
    assert sorted(sum((t for _, t in flatten(open_data("generator").train(4))), [])) == list(
        range(12)
    )


def test_iterables_that_do_not_fit_have_an_order_of_their_own():
    with pytest.raises(
        PrunerError, match="cannot be trained on, since no order can be fixed: give"
    ):
        open_data("stream", cache_mb=0)
    with pytest.raises(PrunerError, match="that can be read once only"):
        open_data("generator", cache_mb=0)
    data = open_data("epochs", cache_mb=0)
    whole = flatten(data.train(5).epoch(1))
    order = np.random.default_rng(1).permutation(12)[:10].reshape(2, 5)
    assert [t for _, t in whole] == order.tolist() and len(data.train(5)) == 2
    assert flatten(data.train(5).epoch(1, 1)) == whole[1:]
    parts = [[t for _, t in flatten(data.train(4, shard=(rank, 2)).epoch(1))] for rank in (0, 1)]
    full = [t for _, t in flatten(data.train(4).epoch(1))]
    assert parts == [[t[rank::2] for t in full] for rank in (0, 1)]
    tested = open_data("streamed_test", cache_mb=0)
    assert [t for _, t in flatten(tested.test(5))] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert [len(t) for _, t in flatten(tested.test(5, limit=7))] == [5, 2]
    assert tested.fingerprint() == open_data("streamed_test", cache_mb=0).fingerprint()


@pytest.mark.parametrize("name, message", [
    ("absent", "user_factory has no absent"), ("broken", r"calling it with \(\) failed: .*no disk"),
    ("nothing", "got a int; expected a torch.utils.data.Dataset"), ("loader", "DataLoader gives"),
])  # fmt: skip
def test_what_is_no_data_is_told(name, message):
    with pytest.raises(PrunerError, match=message) as caught:
        open_data(name)
    assert "\n" not in str(caught.value)


def test_what_is_no_sample_is_told():
    with pytest.raises(PrunerError, match="sample 0 is a tuple of 3; expected a pair"):
        list(open_data("triple").train(1))
    with pytest.raises(PrunerError, match="data 'no.such.module:x' cannot be imported"):
        open_factory("no.such.module:x")
    with pytest.raises(PrunerError, match="expected package.module:factory"):
        open_factory("plain")
    with pytest.raises(PrunerError, match="no samples to test on"):
        open_data("tensors").test()
