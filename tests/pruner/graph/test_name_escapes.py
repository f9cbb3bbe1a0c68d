"""Names that graph modules and Python keep for themselves; devices that follow the inputs."""

import copy
import json

import pytest
import torch
from torch import nn

import pruner
from pruner.errors import PrunerError
from pruner.utils import read_tensors, write_tensors


class Odd(nn.Module):
    """Children and parameters called like attributes, methods, keywords, or no names at all."""

    def __init__(self):
        super().__init__()
        self.graph = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16))
        self.graph_ = nn.Linear(16, 16)
        self.code = nn.ParameterDict({k: nn.Parameter(torch.randn(16)) for k in ("class", "code")})
        self.inner = nn.Module()
        self.inner.forward_ = nn.Linear(16, 16)
        self.inner._modules["forward"] = nn.Linear(16, 16)
        self.inner._modules["a\"b'\\"] = nn.Linear(16, 4)
        self.register_parameter("meta", nn.Parameter(torch.randn(16)))
        self._modules["in"] = nn.BatchNorm1d(4)
        setattr(self, "0.1", nn.Linear(4, 4))

    def forward(self, x):
        x = self.graph(x) * self.code["class"] + self.code["code"]
        x = self.graph_(x).relu() + self.meta
        x = self.inner._modules["forward"](self.inner.forward_(x).relu()).relu()
        return self._modules["in"](getattr(self, "0.1")(self.inner._modules["a\"b'\\"](x)))


def test_every_name_of_state_dict_is_kept(tmp_path):
    torch.manual_seed(0)
    model, x = Odd().eval(), torch.randn(3, 8)
    state = model.state_dict()
    net = pruner.trace(model, (x,))
    assert list(model.state_dict()) == list(state) and "forward" in model.inner._modules
    assert net.module.state_dict().keys() == state.keys() and len(net.dims) == 5
    assert torch.equal(net.module(x), model(x))
    plan = pruner.Plan.random(net, macs=0.5)
    assert pruner.verify(model, net, plan) < 1e-5
    small = pruner.apply(net, plan)
    pruner.save(small, plan, tmp_path)
    assert "inner.forward.weight" in read_tensors(tmp_path / "model.safetensors", "network")[0]
    loaded = pruner.load(tmp_path)
    for twin in (loaded, copy.deepcopy(loaded), copy.deepcopy(small)):
        assert twin.state_dict().keys() == state.keys() and torch.equal(twin(x), small(x))
        twin.load_state_dict({k: v + 1 for k, v in small.state_dict().items()})
        assert not torch.equal(twin(x), small(x))
    inside = nn.ModuleDict({"x": loaded})
    assert {f"x.{name}" for name in state} == inside.state_dict().keys()


def test_a_file_cannot_smuggle_code_into_names(tmp_path):
    model, x = nn.Sequential(nn.Linear(4, 4)), torch.randn(2, 4)
    net = pruner.trace(model, (x,))
    pruner.save(net.module, None, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors, header = read_tensors(file, "network")
    trap = 'a"), print("ran'
    for text in (f"{trap}.weight", "0.weight"):
        nodes = json.loads(json.dumps(header["nodes"]))
        for node in nodes:
            if node["op"] == "placeholder" and text == "0.weight":
                node["target"] = "x=print('ran')"
        named = {(text if k == "0.weight" else k): v for k, v in tensors.items()}
        write_tensors(file, "network", named, {**header, "nodes": nodes})
        with pytest.raises(PrunerError, match="not allowed"):
            pruner.load(tmp_path)


class Placed(nn.Module):
    """Makes tensors in every way that names a device."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, d):
        x = d["x"]
        y = self.a(x).relu() * torch.arange(x.shape[1], device=x.device)[:, None]
        y = y + torch.zeros(x.shape[0], 1, 16, device=x.device).to(x.device)
        y = y + torch.tensor([1.0], device=y.device) + y.new_ones(1) + torch.full_like(y, 2)
        mask = torch.ones(5, 5, dtype=torch.bool, device=x.device).tril().to(y)
        return self.c(torch.matmul(mask, y)), torch.linspace(0, 1, 3, device=y.device)


def test_what_a_network_makes_is_where_its_input_is(tmp_path):
    model, x = Placed().eval(), torch.randn(2, 5, 8)
    net = pruner.trace(model, ({"x": x},))
    plan = pruner.Plan.random(net, macs=0.5)
    assert pruner.verify(model, net, plan) < 1e-5
    small = pruner.apply(net, plan)
    pruner.save(small, plan, tmp_path)
    loaded = pruner.load(tmp_path)
    assert torch.equal(loaded({"x": x})[0], small({"x": x})[0])
    compiled = torch.compile(small, backend="eager", fullgraph=True)
    assert torch.equal(compiled({"x": x})[0], small({"x": x})[0])
    torch.export.export(small, ({"x": x},))
    for module in (small, loaded):
        moved = copy.deepcopy(module).to("meta")({"x": x.to("meta")})
        assert [one.device.type for one in moved] == ["meta", "meta"]


def test_a_file_can_read_no_attribute_but_the_device(tmp_path):
    net = pruner.trace(Placed(), ({"x": torch.randn(2, 5, 8)},))
    pruner.save(net.module, None, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors, header = read_tensors(file, "network")
    header = json.loads(json.dumps(header).replace('"device"]}', '"__class__"]}'))
    write_tensors(file, "network", tensors, header)
    with pytest.raises(PrunerError, match="reads an attribute"):
        pruner.load(tmp_path)
