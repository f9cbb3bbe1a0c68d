"""The oracle: a pruned network must equal the dense one with the same indices silenced."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from .apply import apply
from .axes import mask
from .network import Network
from .nodes import arguments, operator_name
from .plan import Plan


def verify(model: nn.Module, net: Network, plan: Plan, seed: int = 0) -> float:
    """Apply a plan and compare with the masked dense network; returns the largest difference.

    Masked: in a copy of the model, every position of every tensor that belongs to a removed index
    is set to zero, so that it neither writes nor is read; a dropped block's join gives what skips
    it; a normalization over a cut axis takes its statistics from the kept positions. What is left
    is rounding. The difference is relative to the largest value of each output, on normally
    distributed inputs.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = tuple(_like(x, generator) for x in net.inputs)
    oracle = _Masked(net, plan)
    with torch.no_grad():
        got = call(apply(net, plan), net, inputs)
        if oracle.changes:
            expected = oracle.run(*inputs, enable_io_processing=False)
        else:  # plain masks do: the model itself, not its rebuilt graph, is the oracle
            expected = call(silence(model, net, plan).eval(), net, inputs)
    return difference(got, expected)


def call(module: nn.Module, net: Network, inputs: tuple[Any, ...]) -> Any:
    """Call a module with flat inputs, nested as the traced model takes them."""
    args, kwargs = pytree.tree_unflatten(list(inputs), net.program.in_spec)
    return module(*args, **kwargs)


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


_NORMALIZATIONS = ("layer_norm", "rms_norm", "group_norm")


class _Masked(fx.Interpreter):
    """Runs the dense graph: tensors silenced, joins dropped, normalizations over what stays."""

    def __init__(self, net: Network, plan: Plan) -> None:
        module = silence(net.module, net, plan)
        assert isinstance(module, fx.GraphModule)
        super().__init__(module.eval())
        self.joins = {net.blocks[name].join: net.blocks[name].nodes for name in plan.dropped()}
        keep = {net.atoms[name]: kept for name, kept in plan.masks(net).items()}
        self.kept = {}
        for node in net.program.graph.nodes:
            if operator_name(node) in _NORMALIZATIONS:
                args = arguments(node)
                count = len(args.get("normalized_shape", ())) or None
                axes = net.reading.of(node)
                over = axes[-count:] if count else axes[1:2]
                masks = [torch.from_numpy(mask(axis, keep)) for axis in over]
                if not all(bool(kept.all()) for kept in masks):
                    groups = net.reading.literals[node].get((1,))
                    self.kept[node.name] = (
                        [torch.nonzero(kept).flatten() for kept in masks],
                        None if count else int(mask(groups, keep).sum()) if groups else 1,
                    )
        self.changes = bool(self.joins or self.kept)

    def run_node(self, n: fx.Node) -> Any:
        nodes = self.joins.get(n.name)
        if nodes is not None:
            skip = next(s for s in n.args[:2] if isinstance(s, fx.Node) and s.name not in nodes)
            return self.env[skip]
        if n.name in self.kept:
            return self._normalize(n, *self.kept[n.name])
        return super().run_node(n)

    def _normalize(self, n: fx.Node, kept: list[Tensor], groups: int | None) -> Tensor:
        x = self.env[n.all_input_nodes[0]]
        first = 1 if groups is not None else x.dim() - len(kept)
        if n.op == "call_module":
            layer: Any = self.fetch_attr(str(n.target))
            weight, bias, eps = layer.weight, getattr(layer, "bias", None), layer.eps
        else:
            values = {k: self.env.get(v, v) for k, v in arguments(n).items()}
            weight, bias, eps = values["weight"], values.get("bias"), values["eps"]

        def narrow(tensor: Tensor | None, start: int) -> Tensor | None:
            for i, index in enumerate(kept if tensor is not None else ()):
                tensor = tensor.index_select(start + i, index)  # type: ignore[union-attr]
            return tensor

        small, weight, bias = narrow(x, first), narrow(weight, 0), narrow(bias, 0)
        assert small is not None
        shape = [len(index) for index in kept]
        if groups is not None:
            value = functional.group_norm(small, groups, weight, bias, eps)
        elif "rms" in operator_name(n):
            value = functional.rms_norm(small, shape, weight, eps)
        else:
            value = functional.layer_norm(small, shape, weight, bias, eps)
        result = torch.zeros_like(x)
        place = (slice(None),) * first
        grid = torch.meshgrid(*kept, indexing="ij")
        position: Any = (*place, *grid)
        result[position] = value
        return result
