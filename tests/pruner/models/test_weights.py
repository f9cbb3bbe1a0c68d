"""Weight files as training scripts write them: read where tensors fit, refused by name else."""

import argparse
import collections
import pathlib
import types

import numpy as np
import pytest
import torch
from torch import nn

from pruner.errors import PrunerError
from pruner.models.weights import load_weights


def make_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


STATE = make_network().state_dict()
OTHER = {name: value + 1 for name, value in STATE.items()}


def put_before(prefix, state=STATE):
    return {prefix + name: value for name, value in state.items()}


def load_content(content, tmp_path, make=make_network):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    network = make()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 7)
    load_weights(network, path, "it")
    return network.state_dict()


def equal(state, other=STATE):
    return state.keys() == other.keys() and all(
        torch.equal(a.float(), b.float()) for a, b in zip(state.values(), other.values())
    )


BESIDE = {
    "options": {"state_dict": STATE, "args": argparse.Namespace(lr=0.1, at=pathlib.Path("x"))},
    "numbers": {"model": STATE, "best": np.float64(1), "lr": np.ones(2), "n": np.int64(2)},
    "dictionaries": {"net": STATE, "log": collections.defaultdict(list, {"a": [1]}),
                     "count": collections.Counter("aab"), "more": types.SimpleNamespace(a={1, 2})},
    "nested": {"epoch": 1, "models": {"generator": {"state_dict": put_before("module.")}}},
    "averaged": {"n_averaged": torch.tensor(3), **put_before("module.")},
    "compiled inside": {k.replace("1.", "1._orig_mod."): v for k, v in STATE.items()},
    "profiled": {**STATE, "total_ops": torch.zeros(1), "0.total_params": torch.zeros(1)},
    "part of a larger one": {**put_before("encoder.backbone."), "head.weight": torch.ones(2)},
    **{prefix: put_before(prefix) for prefix in (
        "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "module.model._orig_mod.",
    )},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:weights")
@pytest.mark.parametrize("kind", BESIDE)
def test_tensors_are_found_beside_other_things_and_under_other_names(kind, tmp_path):
    assert equal(load_content(BESIDE[kind], tmp_path))


def test_of_several_known_places_the_first_is_read_and_the_others_are_named(tmp_path):
    with pytest.warns(UserWarning, match="under 'model' are read; model_ema would fit too"):
        state = load_content({"model_ema": put_before("module.", OTHER), "model": STATE}, tmp_path)
    assert equal(state)
    assert equal(load_content({"model_ema": put_before("module.")}, tmp_path))


def test_of_several_that_nothing_tells_apart_none_is_read(tmp_path):
    with pytest.raises(PrunerError, match="'student', 'teacher'"):
        load_content({"teacher": STATE, "student": OTHER}, tmp_path)
    flat = {**put_before("teacher."), **put_before("student.", OTHER)}
    with pytest.raises(PrunerError, match="'student', 'teacher'"):
        load_content(flat, tmp_path)


def test_names_like_those_of_wrappers_that_the_network_has_itself(tmp_path):
    def make():
        return nn.ModuleDict(
            {"module": nn.Linear(2, 2), "x": nn.ModuleDict({"module": nn.Linear(2, 2)})}
        )

    state = make().state_dict()
    assert equal(load_content(put_before("module.", state), tmp_path, make), state)
    both = {"a.module.weight": torch.ones(2), "a.weight": torch.zeros(2)}

    def make_clash():
        network = nn.ModuleDict({"a": nn.Module()})
        network["a"].weight = nn.Parameter(torch.zeros(2))
        network["a"].module = nn.Module()
        network["a"].module.weight = nn.Parameter(torch.zeros(2))
        return network

    state = load_content(both, tmp_path, make_clash)
    assert torch.equal(state["a.module.weight"], torch.ones(2))


class Recipe:
    """A class of somebody's training script."""


@pytest.mark.parametrize("legacy", [False, True])
def test_a_class_that_is_refused_is_named(tmp_path, legacy):
    path = tmp_path / "weights.pth"
    torch.save(
        {"state_dict": STATE, "recipe": Recipe()}, path, _use_new_zipfile_serialization=not legacy
    )
    with pytest.raises(PrunerError, match=r"names tests.pruner.models.test_weights.Recipe, and"):
        load_weights(make_network(), path, "it")


def test_what_holds_no_tensors_and_what_does_not_fit(tmp_path):
    with pytest.raises(PrunerError, match="hold no state_dict"):
        load_content([torch.ones(1)], tmp_path)
    with pytest.raises(PrunerError, match=r"shape: 3.weight is \[5, 4\] in the file and \[2, 4\]"):
        load_content({"state_dict": {**STATE, "3.weight": torch.ones(5, 4)}}, tmp_path)
