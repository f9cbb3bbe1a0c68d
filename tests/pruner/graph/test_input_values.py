"""Other values than traced of arguments that are no tensors: refused where the model reads them."""

import copy

import pytest
import torch
from torch import nn

from pruner import Plan, apply, load, save, trace, verify
from pruner.errors import PrunerError
from pruner.graph import to_onnx


class Conditional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 32), nn.Linear(32, 3)

    def forward(self, batch, power=1, *, flip=False, mask=None):
        x = self.first(batch["x"]).relu() ** power * batch["scale"]
        if mask is not None:
            x = x * mask
        return {"y": -self.second(x) if flip else self.second(x), "power": power}


def make_call(x, scale=2.0, name="a.png", sides=(4, 5), **others):
    return ({"x": x, "scale": scale, "about": [name, sides]}, 2), {
        "flip": False, "mask": None, **others,
    }  # fmt: skip


X = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def subject():
    torch.manual_seed(0)
    model = Conditional().eval()
    return model, trace(model, *make_call(X))


def test_only_what_the_model_reads_is_kept(subject):
    _, net = subject
    assert sorted(map(repr, net.program.values.values())) == ["2", "2.0", "False", "None"]


def test_a_cut_network_refuses_what_it_was_not_traced_with(subject, tmp_path):
    model, net = subject
    plan = Plan.random(net, macs=0.5, seed=0)
    assert verify(model, net, plan) < 1e-5
    small = apply(net, plan)
    save(small, plan, tmp_path)
    for module in (small, load(tmp_path), copy.deepcopy(small)):
        args, kwargs = make_call(X[:2], name="b.png", sides=(7, 8), flip=None)
        expected = small(*make_call(X)[0], **make_call(X)[1])["y"][:2]
        assert torch.allclose(module(*args, **kwargs)["y"], expected, atol=1e-6)
        for other, named in (
            ({"scale": 3.0}, "scale=2.0"),
            ({"flip": True}, "flip=False"),
            ({"mask": torch.ones(32)}, "mask=None"),
        ):
            args, kwargs = make_call(X, **other)
            with pytest.raises(PrunerError, match=rf"traced with \w*{named}.*Trace the model"):
                module(*args, **kwargs)
        with pytest.raises(PrunerError, match="power=2"):
            module(make_call(X)[0][0], 3, **make_call(X)[1])


def test_a_file_for_other_runtimes_has_the_traced_values(subject):
    _, net = subject
    args, kwargs = make_call(X)
    assert [one.name for one in to_onnx(net.module, args, kwargs).graph.input] == ["batch_x"]
    with pytest.raises(PrunerError, match="scale=2.0"):
        to_onnx(net.module, *make_call(X, scale=4.0))


def test_a_network_of_tensors_alone_has_no_such_layer():
    net = trace(nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3)), (X,))
    assert not net.program.values
    assert len(list(net.module.children())) == 2
