"""Plans and saved networks: what is written comes back, what was damaged is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from pruner import Plan, PlanError, PrunerError, apply, load, save, trace
from pruner.structure.cost import count_macs
from pruner.utils.tensor_file import read_tensors, write_tensors

from ..networks import Dense, Nested, Residual, shake

IMAGE = (torch.zeros(2, 3, 8, 8),)


@pytest.fixture(scope="module")
def cut():
    torch.manual_seed(0)
    net = trace(shake(Residual()), IMAGE, step=1)
    plan = Plan.random(net, macs=0.5, seed=0)
    return net, plan, apply(net, plan)


def test_a_plan_survives_json(cut, tmp_path):
    _, plan, _ = cut
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[" * 100_000, "1" * 5000,
     *(f'{{"keep": {{"a": {keep}}}, "blocks": {{}}}}' for keep in (
         '["x"]', "[1.5]", "[true]", "[NaN]", '["1"]', "7", "null", "[[1]]")),
     *(f'{{"keep": {{}}, "blocks": {{"b": {stays}}}}}' for stays in ('"no"', "1", "null"))],
)  # fmt: skip
def test_a_damaged_plan_is_refused(text, tmp_path):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(PlanError, match=r"plan\.json"):
        Plan.load(tmp_path / "plan.json")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 1.0])
def test_random_plans_meet_their_share(share):
    net = trace(Dense(), IMAGE, step=1)
    for seed in range(5):
        plan = Plan.random(net, macs=share, seed=seed)
        plan.check(net)
        least = count_macs(net, {name: dim.options()[0] for name, dim in net.dims.items()})
        assert count_macs(net, plan.sizes()) <= max(share * count_macs(net), least)
        assert plan == Plan.random(net, macs=share, seed=seed)


def test_a_saved_network_comes_back(cut, tmp_path):
    _, plan, small = cut
    save(small, plan, tmp_path)
    x = torch.randn(3, 3, 8, 8)
    again = load(tmp_path)
    assert torch.allclose(again(x), small(x), atol=1e-6)
    assert set(again.state_dict()) == set(small.state_dict())


@pytest.mark.parametrize("name", [None, "test_vit"])
def test_a_saved_network_needs_neither_its_source_nor_its_library(cut, tmp_path, name):
    """In a process where neither can be imported."""
    small, x = cut[2], torch.randn(3, 3, 8, 8)
    if name is not None:
        timm, x = pytest.importorskip("timm"), torch.randn(1, 3, 160, 160)
        net = trace(timm.create_model(name).eval(), (x,))
        small = apply(net, Plan.random(net, macs=0.5, seed=0))
    save(small, None, tmp_path)
    torch.save(x, tmp_path / "x.pt")
    torch.save(small(x), tmp_path / "y.pt")
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('tests', 'timm', 'torchvision')));"
        "import torch, pruner; folder = sys.argv[1];"
        "x, y = (torch.load(f'{folder}/{n}.pt', weights_only=True) for n in 'xy');"
        "assert torch.allclose(pruner.load(folder)(x), y, atol=1e-5)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_loaded_network_trains(cut, tmp_path):
    save(cut[2], None, tmp_path)
    again = load(tmp_path).train()
    again(torch.randn(4, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in again.parameters())


def test_dictionaries_come_back_as_dictionaries(tmp_path):
    x, other = torch.randn(2, 6), torch.randn(2, 4)
    net = trace(Nested().eval(), (x,), {"other": other})
    save(apply(net, Plan({}, {})), None, tmp_path)
    assert torch.equal(load(tmp_path)(x, other=other)["sums"], net.module(x, other=other)["sums"])


def test_a_truncated_network_is_refused(cut, tmp_path):
    save(cut[2], None, tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PrunerError, match=r"model\.safetensors"):
        load(tmp_path)


def test_a_stored_network_can_call_nothing_but_operators(cut, tmp_path):
    save(cut[2], None, tmp_path)
    tensors, header = read_tensors(tmp_path / "model.safetensors", "network")
    for target in ("os.system", "operator.attrgetter", "aten.__class__.x", "builtins.eval"):
        evil = json.loads(json.dumps(header))
        call = next(node for node in evil["nodes"] if node["op"] == "call_function")
        call["target"] = target
        write_tensors(tmp_path / "model.safetensors", "network", tensors, evil)
        with pytest.raises(PrunerError):
            load(tmp_path)


def test_only_materialized_networks_are_saved(tmp_path):
    with pytest.raises(PrunerError, match="Linear"):
        save(torch.nn.Linear(2, 2), None, tmp_path)
