"""Importance: what it accepts, and its former names."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np

from pruner import Importance

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
