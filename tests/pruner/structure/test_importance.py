"""Importance: what it accepts, its former names and its file."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from pruner import Importance
from pruner.errors import PrunerError

PARTS = {"d": {"": np.ones(2)}}
CURVES = {"d": np.array([1.0, 0.0])}


def test_rises_is_the_former_name_of_loss_curves():
    found = Importance("mine", PARTS, rises=CURVES)
    assert found.loss_curves is CURVES and found.rises is CURVES
    other = {"d": np.array([2.0, 0.0])}
    assert replace(found, rises=other).loss_curves is other
    assert replace(found, loss_curves=other).rises is other
    assert replace(found, criterion="ours").loss_curves is CURVES
    assert Importance("mine", PARTS, {}, CURVES).rises is CURVES


def test_what_is_not_given_is_empty():
    found = pickle.loads(pickle.dumps(Importance("mine", PARTS)))
    assert found.blocks == {} and found.loss_curves == {}


def test_an_importance_file_gives_back_what_was_saved(tmp_path):
    parts = {
        "a/b": {"": np.array([1.0, 0.5]), "cell.1": np.array([0.0, 1e-300])},
        "c": {"": np.ones(3)},
    }
    rises = {"c": np.array([2.0, 0.5, 0.0])}
    Importance("mine", parts, {"block": -0.25}, rises).save(tmp_path / "i.safetensors")
    found = Importance.load(tmp_path / "i.safetensors")
    assert set(found.loss_curves) == {"c"} and np.array_equal(found.loss_curves["c"], rises["c"])
    assert found.criterion == "mine" and found.blocks == {"block": -0.25}
    assert {d: set(c) for d, c in found.parts.items()} == {"a/b": {"", "cell.1"}, "c": {""}}
    for dim, cells in parts.items():
        for cell, values in cells.items():
            assert np.array_equal(found.parts[dim][cell], values)
    assert [p.name for p in tmp_path.iterdir()] == ["i.safetensors"]


@pytest.mark.parametrize("damage", ["truncated", "edited", "foreign", "empty", "missing"])
def test_a_damaged_importance_file_is_refused(tmp_path, damage):
    path = tmp_path / "i.safetensors"
    Importance("mine", {"d": {"": np.arange(4.0)}}).save(path)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-5])
    elif damage == "edited":
        content[-3] ^= 1
        path.write_bytes(content)
    elif damage == "foreign":
        from safetensors.torch import save_file

        save_file({"x": torch.ones(2)}, path)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    with pytest.raises(PrunerError, match=r"i\.safetensors") as caught:
        Importance.load(path)
    assert "\n" not in str(caught.value)
