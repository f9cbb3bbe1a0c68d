"""What nothing reads is removed, but for arguments, results and writes in place."""

from __future__ import annotations

import torch
from torch import fx

from pruner.graph.ops import remove_dead_nodes


def test_writes_in_place_stay():
    graph = fx.Graph()
    x, unread = graph.placeholder("x"), graph.placeholder("unread")
    dead = graph.call_function(torch.ops.aten.relu.default, (x,))
    graph.call_function(torch.ops.aten.neg.default, (dead,))
    written = graph.call_function(torch.ops.aten.add_.Tensor, (x, x))
    graph.output(x)
    remove_dead_nodes(graph)
    assert [*graph.nodes][:-1] == [x, unread, written]
    remove_dead_nodes(graph, keep=lambda node: False)
    assert [*graph.nodes][:-1] == [x, unread]
