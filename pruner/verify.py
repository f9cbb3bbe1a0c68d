"""The oracle: a pruned network must equal the dense one with the same indices silenced."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from .apply import apply
from .network import Network
from .plan import Plan


def verify(model: nn.Module, net: Network, plan: Plan, seed: int = 0) -> float:
    """Apply a plan and compare with the masked dense network; returns the largest difference.

    Masked: in a copy of the model, every position of every tensor that belongs to a removed index
    is set to zero, so that it neither writes nor is read, and a dropped block's join returns its
    skip. The difference is relative to the largest value of each output, on
    normally distributed inputs. It is rounding only, unless a normalization runs over a cut axis
    (layer norm over a cut embedding): there the two differ by meaning, and
    :func:`exact` tells so.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = tuple(_like(x, generator) for x in net.inputs)
    small = apply(net, plan)
    masked = silence(model if not plan.dropped() else net.module, net, plan)
    with torch.no_grad():
        got = small(*inputs)
        if plan.dropped():
            expected = _Skipping(masked, net, plan).run(*inputs)
        else:
            expected = masked.eval()(*inputs)
    return difference(got, expected)


def difference(got: Any, expected: Any) -> float:
    """Largest difference over all output tensors, relative to the largest value of each."""
    worst = 0.0
    ours, theirs = (
        [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in pytree.tree_leaves(tree)]
        for tree in (got, expected)
    )
    if len(ours) != len(theirs):
        return float("inf")
    for x, y in zip(ours, theirs):
        if not isinstance(y, Tensor):
            continue
        if x.shape != y.shape:
            return float("inf")
        if y.is_floating_point() and y.numel():
            scale = max(1e-9, float(y.abs().max()))
            delta = float((x - y).abs().max()) / scale
            worst = delta if delta > worst or delta != delta else worst
    return worst


def exact(net: Network, plan: Plan) -> bool:
    """Whether the masked dense network is an exact oracle: no normalization over a cut axis."""
    from .axes import atoms

    touched = {net.atoms[n] for n, k in plan.keep.items() if len(k) < net.dims[n].size}
    return not touched.intersection(a for axis in net.reading.normalized for a in atoms(axis))


def silence(model: nn.Module, net: Network, plan: Plan) -> nn.Module:
    """A copy of a model with the positions of the removed indices set to zero in every tensor."""
    masked = copy.deepcopy(model)
    tensors: Mapping[str, Tensor] = {
        **dict(masked.named_parameters(remove_duplicate=False)),
        **dict(masked.named_buffers(remove_duplicate=False)),
    }
    with torch.no_grad():
        for name, kept in plan.keep.items():
            dim = net.dims[name]
            gone = torch.ones(dim.size, dtype=torch.bool)
            gone[list(kept)] = False
            for slot in dim.slots:
                owner = torch.from_numpy(slot.owner)
                positions = torch.nonzero((owner >= 0) & gone[owner.clamp(min=0)]).flatten()
                tensors[slot.tensor].index_fill_(slot.axis, positions, 0.0)
    return masked


def _like(x: Any, generator: torch.Generator) -> Any:
    if isinstance(x, Tensor) and x.is_floating_point():
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


class _Skipping(fx.Interpreter):
    """Runs the dense graph; the join of a dropped block gives what skips it."""

    def __init__(self, module: nn.Module, net: Network, plan: Plan) -> None:
        assert isinstance(module, fx.GraphModule)
        super().__init__(module.eval())
        self.joins = {net.blocks[name].join: net.blocks[name].nodes for name in plan.dropped()}

    def run_node(self, n: fx.Node) -> Any:
        nodes = self.joins.get(n.name)
        if nodes is None:
            return super().run_node(n)
        skip = next(s for s in n.args[:2] if isinstance(s, fx.Node) and s.name not in nodes)
        return self.env[skip]
