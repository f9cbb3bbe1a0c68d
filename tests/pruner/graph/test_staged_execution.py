"""Replayed values are those of a plain forward pass, with any position and any memory."""

from __future__ import annotations

import pytest
import torch

from pruner.graph.staged_execution import StagedExecution
from pruner.structure.trace import trace

from ..networks import Residual


@pytest.mark.parametrize("memory_bytes", [0, 1e9])
def test_stretches_give_what_a_whole_pass_gives(memory_bytes):
    torch.manual_seed(0)
    module = trace(Residual(), (torch.zeros(1, 3, 8, 8),)).module
    inputs = [(torch.randn(3, 3, 8, 8),) for _ in range(2)]
    everything: dict[str, list[torch.Tensor]] = {}
    for (x,) in inputs:
        env = {}
        for node in module.graph.nodes:  # the plain interpreter, value by value
            if node.op == "output":
                break
            if node.op == "placeholder":
                env[node] = x
            else:
                args = torch.fx.map_arg(node.args, env.__getitem__)
                call = (
                    module.get_submodule(node.target) if node.op == "call_module" else node.target
                )
                env[node] = call(*args, **node.kwargs)
            everything.setdefault(node.name, []).append(env[node])
    replay = StagedExecution(module, inputs, memory_bytes)
    names = [node.name for node in replay.nodes]
    for k, name in enumerate(names):
        last = names[min(k + 3, len(names) - 1)]
        for b, values in enumerate(replay.values([name, last], before=name)):
            assert torch.equal(values[name], everything[name][b])
            assert torch.equal(values[last], everything[last][b])
    assert replay.position == (len(names) - 1 if memory_bytes else 0)


def test_a_changed_layer_behind_the_position_shows():
    torch.manual_seed(0)
    module = trace(Residual(), (torch.zeros(1, 3, 8, 8),)).module
    x = torch.randn(3, 3, 8, 8)
    replay = StagedExecution(module, [(x,)])
    last = replay.nodes[-1]
    assert torch.equal(next(replay.values([last.name]))[last.name], module(x))
    for _ in replay.values([], before=last.name):
        pass
    with torch.no_grad():
        module.head.bias.add_(1.0)
    assert torch.equal(next(replay.values([last.name]))[last.name], module(x))
