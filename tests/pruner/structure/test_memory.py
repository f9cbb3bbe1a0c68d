"""Peak memory against what torch holds when the pruned network is run node by node."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from pruner import Plan, apply, trace
from pruner.structure import count_memory

from ..networks import Attention, Dense, Plain, Residual


class Reread(nn.Module):
    """A value that late Blocks read, a skip connection over Blocks, and equal branches."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.memory = nn.Conv2d(3, 32, 1)
        self.a, self.b, self.c = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.cross = nn.Conv2d(40, 8, 1)
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        kept, x = torch.relu(self.memory(x)), torch.relu(self.stem(x))
        first = x
        x = torch.relu(x + self.a(x))
        x = torch.relu(x + self.b(x))
        x = x + self.cross(torch.cat([x, kept], 1))
        y, z = x + self.c(x), x.permute(0, 1, 3, 2)
        return self.head(torch.cat([y + z, first], 1)).mean((2, 3))


def hold_bytes(module, inputs):
    """The most bytes of storages that are held at once, and those of weights, by running it."""
    nodes = list(module.graph.nodes)
    last = {source: i for i, node in enumerate(nodes) for source in node.all_input_nodes}
    interpreter = torch.fx.Interpreter(module, garbage_collect_values=False)
    env = interpreter.env = dict(zip((n for n in nodes if n.op == "placeholder"), inputs))
    weights = {id(t): t for t in (*module.parameters(), *module.buffers())}
    own = {t.untyped_storage().data_ptr() for t in weights.values()}
    peak = 0
    with torch.no_grad():
        for i, node in enumerate(nodes[:-1]):
            if node not in env:
                env[node] = interpreter.run_node(node)
            held = [t for t in pytree.tree_leaves(list(env.values())) if torch.is_tensor(t)]
            storages = {s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in held)}
            peak = max(peak, sum(size for key, size in storages.items() if key not in own))
            for source in list(env):
                if last.get(source, -1) <= i:
                    del env[source]
    return peak + sum(t.nbytes for t in weights.values())


@pytest.mark.parametrize("kind", [Attention, Dense, Plain, Residual, Reread])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_peak_is_what_torch_holds(kind, batch):
    torch.manual_seed(0)
    net = trace(kind().eval(), (torch.randn(batch, 3, 8, 8),), step=1)
    for seed in range(12):
        plan = Plan.random(net, 0.6, seed, drop_blocks=0.1 * (seed % 6))
        small = apply(net, plan).eval()
        told = count_memory(net, plan.sizes(), plan.dropped_blocks())
        assert told == hold_bytes(small, net.inputs), plan.blocks


def test_half_precision_takes_half():
    net = trace(Plain().eval(), (torch.randn(2, 3, 8, 8),))
    half = trace(Plain().bfloat16().eval(), (torch.randn(2, 3, 8, 8).bfloat16(),))
    counters = sum(t.nbytes for t in net.program.tensors.values() if not t.is_floating_point())
    assert count_memory(half) * 2 - counters == count_memory(net)
