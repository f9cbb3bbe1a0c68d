"""What users bring: wrapped models, nested arguments, caches; the model is left as it was."""

import functools
import warnings

import pytest
import torch
from torch import nn

import pruner
from pruner.errors import PrunerWarning, TraceError
from pruner.graph.model_state import keep_model

TABLE = {}
LIST = []


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(8, 16), nn.Linear(16, 3)

    def table(self, x):
        return torch.arange(x.shape[1], dtype=x.dtype)[:, None]

    def forward(self, x):
        return self.c(self.a(x).relu() + self.table(x))


class InClass(Head):
    kept = None

    def table(self, x):
        if InClass.kept is None:
            InClass.kept = super().table(x)
        return InClass.kept


class InGlobal(Head):
    def table(self, x):
        LIST.append(x)
        return TABLE.setdefault(x.shape[1], super().table(x))


class Box:
    def __init__(self):
        self.held = {}


class InObject(Head):
    def __init__(self):
        super().__init__()
        self.box = Box()

    def table(self, x):
        return self.box.held.setdefault("t", [super().table(x)])[0]


class InFunction(Head):
    @staticmethod
    @functools.lru_cache
    def make(length):
        return torch.arange(length)[:, None].float()

    def table(self, x):
        return self.make(x.shape[1])


class InAttribute(Head):
    kept = None

    def table(self, x):
        if self.kept is None or self.kept[0] != x.shape:
            self.kept = (x.shape, super().table(x), torch.zeros(x.shape[0], 1, 1))
        return self.kept[1] + self.kept[2]


X = torch.randn(2, 5, 8)


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("kind", [Head, InClass, InGlobal, InObject, InFunction, InAttribute])
def test_what_is_kept_of_a_call_is_neither_traced_nor_left(kind, called):
    model = kind().train()
    model.a.eval()
    model.a.weight.requires_grad_(False)
    seen = []
    model.c.register_forward_hook(lambda *values: seen.append(values))
    model(X)
    if not called:
        InClass.kept = None
        TABLE.clear()
        LIST.clear()
        InFunction.make.cache_clear()
        fresh = kind().train()
        fresh.load_state_dict(model.state_dict())
        fresh.a.eval()
        model = fresh
    before = {name: value for name, value in vars(model).items()}
    state, count = {k: v.clone() for k, v in model.state_dict().items()}, len(LIST)
    expected = model(X)
    vars(model).clear()
    vars(model).update(before)
    del LIST[count:]
    net = pruner.trace(model, (X,))
    assert net.fixed_batch is None
    assert {k: v for k, v in vars(model).items()} == before and len(LIST) == count
    assert model.training and not model.a.training and len(seen) <= 2
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert torch.equal(model(X), expected)
    assert torch.allclose(net.module(X[:1]), expected[:1])
    assert pruner.verify(model, net, pruner.Plan.random(net, macs=0.5)) < 1e-6


def test_numbers_in_buffers_and_hooks_are_put_back():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with keep_model(model):
        model(torch.randn(4, 2))
        model.register_forward_hook(lambda *_: None)
        model[0].extra = 3
        model[1].register_buffer("more", torch.zeros(1))
    assert not model[1].running_mean.any() and not model._forward_hooks
    assert not hasattr(model[0], "extra") and "more" not in dict(model[1].named_buffers())


class Any(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Head()

    def forward(self, *args, scale, **named):
        return {"y": self.net(args[0]["x"][0]) * scale + named["shift"] + args[1]}


@pytest.mark.parametrize("batch", [1, 2])
def test_arguments_of_any_nesting_keep_the_batch_free(batch):
    x = torch.randn(batch, 5, 8)
    args, named = ({"x": [x]}, torch.ones(batch, 1, 3)), {"shift": torch.ones(5, 1), "scale": 2.0}
    model = Any()
    net = pruner.trace(model, args, named)
    assert net.fixed_batch is None
    more = ({"x": [torch.cat([x] * 3)]}, torch.ones(3 * batch, 1, 3))
    assert torch.allclose(net.module(*more, **named)["y"], model(*more, **named)["y"], atol=1e-6)


WRAPPERS = {
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "parallel": nn.DataParallel,
    "averaged": torch.optim.swa_utils.AveragedModel,
    "averaged of compiled": lambda m: torch.optim.swa_utils.AveragedModel(
        nn.DataParallel(torch.compile(m, backend="eager"))
    ),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_what_only_calls_a_model_is_taken_off(kind):
    model = Head()
    wrapped = WRAPPERS[kind](model)
    net = pruner.trace(wrapped, (X,))
    assert net.fixed_batch is None and net.module.state_dict().keys() == model.state_dict().keys()
    assert net.name == "Head"
    assert pruner.verify(wrapped, net, pruner.Plan.random(net, macs=0.5)) < 1e-6


def test_a_part_that_is_compiled_keeps_its_names():
    model = Any()
    model.net = torch.compile(model.net, backend="eager")
    net = pruner.trace(model, ({"x": [X]}, 1.0), {"scale": 1.0, "shift": 0.0})
    assert net.fixed_batch is None and net.module.state_dict().keys() == model.state_dict().keys()


def test_a_script_is_refused_wherever_it_is():
    for model in (torch.jit.trace(Head(), X), nn.Sequential(torch.jit.script(nn.Linear(2, 2)))):
        with pytest.raises(TraceError, match="pass the original nn.Module"):
            pruner.trace(model, (X,))


def test_a_fixed_batch_is_said():
    class Fixed(Head):
        def forward(self, x):
            return super().forward(x).reshape(2, 15)

    with pytest.warns(PrunerWarning, match="batch of 2 only.* constant of the batch"):
        assert pruner.trace(Fixed(), (X,)).fixed_batch == 2


class Asking(Head):
    """Asks for the batch in three ways that give numbers."""

    def forward(self, x):
        if len(x) != x.shape[0] or len([x]) != 1:
            raise ValueError
        return super().forward(x).reshape(len(x), -1)


class Counting(Head):
    def forward(self, x):
        return super().forward(x).reshape(int(x.shape[0]), -1)


@pytest.mark.parametrize("kind", [Asking, Counting])
def test_code_that_asks_for_the_batch_as_a_number_leaves_it_free(kind):
    model = kind()
    net = pruner.trace(model, (X,))
    assert net.fixed_batch is None and "len" not in globals()
    more = torch.cat([X, X])
    assert torch.allclose(net.module(more), model(more), atol=1e-6)


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_gradients_of_ones_own_are_said_to_be_lost():
    class Model(Head):
        def forward(self, x):
            return Step.apply(super().forward(x))

    with pytest.warns(PrunerWarning, match="gradients that Step defines"):
        net = pruner.trace(Model(), (X,))
    assert any("Step" in note for note in net.program.notes)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrunerWarning)
        assert not pruner.trace(Head(), (X,)).program.notes
    assert torch.equal(Step.apply(X), X.sign())


def test_branches_on_values_are_refused_with_their_line():
    class Branch(Head):
        def forward(self, x):
            if x.sum() > 0:
                return super().forward(x)
            return x

    with pytest.raises(TraceError, match=r"data-dependent.*test_capture.py:\d+: if x.sum\(\) > 0"):
        pruner.trace(Branch(), (X,))
