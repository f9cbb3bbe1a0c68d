"""Several parts as one Network: against the whole model, cut, scored, and put back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pruner
from pruner.errors import PrunerError
from pruner.graph import GraphPart
from pruner.models import Example, Host, PartTask, capture_arguments, find_parts, splice
from pruner.structure import trace_parts
from pruner.tasks import Detection, NetworkCalls

from ..scenes import draw_batch, make_rcnn, make_retina

KINDS = {
    "heads and backbone": (make_retina, ("head", "backbone")),
    "what is between is not theirs": (
        lambda: make_rcnn(keypoints=True), ("backbone", "rpn.head", "roi_heads.keypoint_head"),
    ),
}  # fmt: skip


class Joint(nn.Module):
    """Calls each part with its own arguments: the oracle of a joined network."""

    def __init__(self, parts) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, *calls):
        return tuple(part(*a, **k) for part, (a, k) in zip(self.parts, calls, strict=True))


def trace_all(model: nn.Module, paths: tuple[str, ...], example: Example) -> pruner.Network:
    parts = find_parts(model, paths)
    calls = {path: capture_arguments(model, path, example) for path in paths}
    return trace_parts({k: (m, calls[k].args, calls[k].kwargs) for k, m in parts.items()})


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_detector_are_one_network(kind: str) -> None:
    make, paths = KINDS[kind]
    torch.manual_seed(0)
    model = make().eval()
    batches = [draw_batch(4, seed) for seed in range(1, 5)]
    images, _ = batches[0]
    net = trace_all(model, paths, Example((list(images[:1]),)))
    assert {name.rpartition(".")[0].startswith(paths) for name in net.dims} == {True}
    task, whole = PartTask(Detection(), Host(model, *paths)), Detection()
    plan = pruner.Plan.random(net, macs=0.3, seed=1)
    assert pruner.verify(Joint(find_parts(model, paths).values()), net, plan) < 1e-5
    with torch.no_grad():
        expected = whole.forward(model, images)["predictions"]
        found = task.forward(net.module, images)["predictions"]
    assert all(torch.allclose(found[k], v, atol=1e-5) for k, v in expected.items())
    scores = pruner.score(net, batches, None, "taylor", task=task)
    assert any(scores.total(name).max() > 0 for name in net.dims)
    small = pruner.apply(net, plan)
    assert pruner.repair(small, net, plan, batches, task=task)
    cut = splice(model, paths, small)
    assert type(cut) is type(model) and list(cut.state_dict()) == list(model.state_dict())
    with pytest.raises(PrunerError, match="holds no pruned transform"):
        splice(model, (*paths, "transform"), cut)
    with torch.no_grad():
        expected = task.forward(small, images)["predictions"]
        found = whole.forward(cut, images)["predictions"]
        assert len(cut(list(images))) == len(images)
    assert all(torch.equal(found[k], v) for k, v in expected.items())
    assert any(p.shape != q.shape for p, q in zip(cut.parameters(), model.parameters()))
    losses = whole.forward(cut.train(), images, batches[0][1])["losses"]
    torch.stack([*losses.values()]).sum().backward()


def test_a_part_sees_what_a_cut_of_another_does_to_it() -> None:
    torch.manual_seed(0)
    model, (images, _) = make_retina().eval(), draw_batch()
    paths = ("backbone", "head")
    net = trace_all(model, paths, Example((list(images[:1]),)))
    task = PartTask(Detection(), Host(model, *paths))
    calls = NetworkCalls.record(task, net.module, [(images, None)])
    ((args, _),) = task.list_calls(net.module, images)
    for path in ("backbone.stem.0.0", "head.regression_head.conv.0.0"):
        weight = net.module.get_submodule(path).weight
        with torch.no_grad():
            kept = weight.clone()
            weight.mul_(0.5)
            (found,) = calls.complete([net.module(*args)])
            expected = task.forward(net.module, images)
            weight.copy_(kept)
            dense = task.forward(net.module, images)
        for name, value in expected["predictions"].items():
            assert torch.equal(found["predictions"][name], value), (path, name)
        assert float(task.divergence(found, dense).mean) > 0, path


class Pair(nn.Module):
    """Parts that share a weight, are called differently often, by keyword, and make numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 6))
        self.code = Positions()
        self.code.out.weight = self.left[2].weight

    def forward(self, x):
        y = self.left(self.left(x))
        return self.code(y, scale=2.0 * x[:, :1])


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 16), nn.Linear(16, 6)

    def forward(self, x, scale):
        places = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)
        return self.out(self.inner(x * scale + places.expand(len(x), -1)).relu())


def test_parts_that_share_weights_stay_tied_and_follow_type() -> None:
    torch.manual_seed(0)
    model, x = Pair().eval(), torch.randn(3, 6)
    net = trace_all(model, ("left", "code"), Example((x,)))
    names = dict(net.module.named_parameters(remove_duplicate=False))
    # "code" is an attribute of every graph's module
    assert names["left.2.weight"] is names["code_.out.weight"]
    assert set(net.module.state_dict()) == set(model.state_dict())
    assert len(net.dims) == 1  # the hidden width of both, by the weight that they share
    task = PartTask(pruner.Task(), Host(model, "left", "code"))
    with torch.no_grad():
        torch.testing.assert_close(task.forward(net.module, x), model(x))
    counts = NetworkCalls.record(task, net.module, [(x, None)])
    assert counts.counts == (2,)
    (name,) = net.dims
    plan = pruner.Plan({name: tuple(range(8))}, {})
    small = pruner.apply(net, plan)
    whole = splice(model, ("left", "code"), small)
    with torch.no_grad():
        torch.testing.assert_close(whole(x), task.forward(small, x))
        assert whole.double()(x.double()).dtype == torch.float64
    assert set(whole.state_dict()) == set(model.state_dict())
    assert whole.left.get_parameter("2.weight") is whole.code.get_parameter("out.weight")
    assert isinstance(task.host.split(small)[0], GraphPart)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (("backbone", "backbone.stem"), "backbone.stem lies within backbone"),
        (("backbone", "backbone"), "same module"),
        (("backbone", "haed"), "has no 'haed'"),
    ],
)
def test_parts_that_cannot_be_together_are_said(paths: tuple[str, ...], words: str) -> None:
    with pytest.raises(PrunerError, match=words):
        find_parts(make_retina(), paths)
