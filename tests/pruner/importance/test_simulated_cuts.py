"""What criteria run in the place of a cut is the network that the cut leaves, whatever reads it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pruner.graph import evaluation_mode
from pruner.importance.divergence import mean_divergence, run_batches, split_holdout
from pruner.importance.layer_statistics import collect_statistics
from pruner.importance.measured import MeasuredCriterion
from pruner.importance.score import score
from pruner.structure.plan import Plan, rank_indices
from pruner.structure.trace import trace
from pruner.surgery.apply import apply
from pruner.surgery.pca_rotation import replace_tensors

from ..odd_networks import Recurrent
from ..reconstruction.test_linear_reads import Computed, Einsum, Heads, Tied, Tokens


class Read(nn.Module):
    """Features, a recurrent layer, and a linear one that reads its outputs."""

    def __init__(self, kind: type[nn.RNNBase], outputs: int = 12, **settings) -> None:
        super().__init__()
        self.first = nn.Linear(6, 10)
        self.rnn, self.last = kind(10, 12, **settings), nn.Linear(outputs, 5)

    def forward(self, x):
        y, _ = self.rnn(self.first(x).relu().transpose(0, 1))
        return self.last(y).transpose(0, 1)


class Unrolled(nn.Module):
    """A cell that is called for every step by the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last = nn.LSTMCell(6, 12), nn.Linear(12, 5)

    def forward(self, x):
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.last(state[0])


class Grouped(nn.Module):
    """A convolution in groups, with a batch norm whose shift outlives the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv1d(4, 12, 1), nn.BatchNorm1d(12)
        self.mid, self.last = nn.Conv1d(12, 12, 3, groups=3), nn.Conv1d(12, 5, 1)
        nn.init.normal_(self.norm.bias)

    def forward(self, x):
        return self.last(self.mid(self.norm(self.first(x)).relu()).relu())


class BothReads(nn.Module):
    """One stream that a plain layer, an LSTM and a convolution in groups read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.plain = nn.Linear(6, 12), nn.Linear(12, 5)
        self.rnn, self.last = nn.LSTM(12, 8, batch_first=True), nn.Linear(8, 5)
        self.mix = nn.Conv1d(12, 6, 1, groups=3)
        self.out = nn.Linear(6, 5)

    def forward(self, x):
        x = self.first(x).relu()
        mixed = self.mix(x.transpose(1, 2)).transpose(1, 2)
        return self.plain(x) + self.last(self.rnn(x)[0]) + self.out(mixed)


def steps():
    return (torch.randn(12, 7, 6),)


def maps():
    return (torch.randn(12, 3, 7),)


KINDS = {
    "lstm": (lambda: Read(nn.LSTM), steps),
    "lstm both ways": (lambda: Read(nn.LSTM, 24, bidirectional=True), steps),
    "lstm projected": (lambda: Read(nn.LSTM, 6, proj_size=6), steps),
    "gru stacked": (lambda: Read(nn.GRU, num_layers=2), steps),
    "rnn without bias": (lambda: Read(nn.RNN, 24, bidirectional=True, bias=False), steps),
    "last state": (Recurrent, maps),
    "last state, both ways": (lambda: Recurrent(bidirectional=True, num_layers=2), maps),
    "unrolled": (Unrolled, steps),
    "groups": (Grouped, lambda: (torch.randn(12, 4, 9),)),
    "several readers": (BothReads, steps),
    "cross attention": (Tokens, lambda: (torch.randn(12, 6, 8), torch.randn(12, 7, 8))),
    "computed": (Computed, lambda: (torch.randn(12, 6, 8),)),
    "einsum": (Einsum, lambda: (torch.randn(12, 6, 8),)),
    "heads": (Heads, lambda: (torch.randn(12, 6, 8),)),
    "tied": (Tied, lambda: (torch.randint(0, 20, (12, 6)),)),
}


def traced(kind):
    torch.manual_seed(0)
    make, inputs = KINDS[kind]
    batches = [(inputs(), None) for _ in range(4)]
    return trace(make().eval(), tuple(x[:2] for x in batches[0][0])), batches


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_run_with_a_dim_cut_is_the_cut_network(kind):
    net, batches = traced(kind)
    with evaluation_mode(net.module):
        statistics = collect_statistics(net, batches, 20)
    assert net.dims
    for name, dim in net.dims.items():
        for size in dim.options()[: -1 : max(1, len(dim.options()) // 2)]:
            found = statistics.eliminate(dim, [size])
            changed = replace_tensors(net, statistics.simulate_cut(dim, found, size))
            kept = tuple(sorted(found.order[dim.size - size :].tolist()))
            small = apply(changed, Plan({name: kept}, {}))
            x = batches[0][0]
            with torch.no_grad():
                assert torch.allclose(small(*x), changed.module(*x), atol=1e-5), name


@pytest.mark.parametrize("kind", ["lstm both ways", "gru stacked", "last state", "several readers"])
def test_loss_curves_are_the_divergence_of_these_networks(kind):
    net, batches = traced(kind)
    fits, held_out = split_holdout(batches)
    found = score(net, batches, None, MeasuredCriterion(shares=(0.5,)))
    dense = list(run_batches(net.module, held_out))
    with evaluation_mode(net.module):
        statistics = collect_statistics(net, fits, 64)
    for name, dim in net.dims.items():
        size = min(dim.options()[:-1], key=lambda n, whole=dim.size: abs(n - whole / 2))
        order = statistics.eliminate(dim, [size, dim.options()[0]])
        changed = replace_tensors(net, statistics.simulate_cut(dim, order, size))
        kept = tuple(sorted(rank_indices(found, name)[:size].tolist()))
        assert kept == tuple(sorted(order.order[dim.size - size :].tolist()))
        small = apply(changed, Plan({name: kept}, {}))
        expected = mean_divergence(run_batches(small, held_out), dense)
        curve = found.loss_curves[name][dim.options().index(size)]
        assert curve == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_unit_that_only_its_own_layer_reads_goes_after_one_that_nothing_reads(kind):
    torch.manual_seed(0)
    model = Read(kind).eval()
    inner, dead = 0, 5
    with torch.no_grad():
        model.last.weight[:, [inner, dead]] = 0.0
        model.rnn.weight_hh_l0[:, dead] = 0.0
        model.rnn.weight_hh_l0[:, inner] = 2.0 * torch.randn(len(model.rnn.weight_hh_l0))
    batches = [(steps(), None) for _ in range(4)]
    net = trace(model, (batches[0][0][0][:2],))
    (name,) = (n for n, d in net.dims.items() if any("rnn.weight_hh" in s.tensor for s in d.slots))
    found = score(net, batches, None, "measured")
    order = rank_indices(found, name)[::-1].tolist()  # the first to go first
    assert order[0] == dead and order.index(inner) > 3
    assert found.loss_curves[name][-2] == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer_makes_up_for_an_input_that_it_has_twice(kind):
    torch.manual_seed(0)
    model = Read(kind).eval()
    with torch.no_grad():
        model.first.weight[3], model.first.bias[3] = model.first.weight[7], model.first.bias[7]
    batches = [(steps(), None) for _ in range(4)]
    net = trace(model, (batches[0][0][0][:2],))
    (name,) = (n for n, d in net.dims.items() if any("first" in s.tensor for s in d.slots))
    found = score(net, batches, None, "measured")
    assert rank_indices(found, name)[-1] in (3, 7)
    curve = np.array(found.loss_curves[name])
    assert curve[-2] < 0.3 * curve[-3]
