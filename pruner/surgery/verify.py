"""Verifies a plan: the cut network must equal the dense one with the same indices silenced."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from ..axes import REDUCTIONS, kept_mask
from ..graph import get_layer, named_tensors, operator_arguments, operator_name
from ..structure import Network, Plan
from .apply import apply
from .topk_alignment import AlignedInterpreter, find_selections, record_selections


def verify(model: nn.Module, net: Network, plan: Plan, seed: int = 0) -> float:
    """Apply a plan, compare with the masked dense network and return the largest difference.

    Masked: in a copy of the model, every position of every tensor that belongs to a removed index
    is set to zero, so that it neither writes nor is read; a dropped block's join gives what skips
    it; a normalization over a cut axis takes its statistics from the kept positions. What is left
    is rounding. The difference is relative to the largest value of each output, on normally
    distributed inputs. Where rounding decides what a ``topk`` or ``sort`` selects, the masked
    network selects what the pruned one does.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = tuple(_randomize(x, generator) for x in net.inputs)
    small = apply(net, plan)
    oracle = _MaskedInterpreter(net, plan)
    with torch.no_grad():
        got = call_flat(small, net, inputs)
        if find_selections(small.graph):
            oracle.choices = record_selections(small, inputs)
        if oracle.changes:
            expected = oracle.run(*inputs, enable_io_processing=False)
        else:  # plain masks do: the model itself, not its rebuilt graph, is the oracle
            expected = call_flat(silence_removed(model, net, plan).eval(), net, inputs)
    return largest_difference(got, expected)


def call_flat(module: nn.Module, net: Network, inputs: tuple[Any, ...]) -> Any:
    """Call a module with flat inputs, nested as the traced model takes them."""
    args, kwargs = pytree.tree_unflatten(list(inputs), net.program.in_spec)
    return module(*args, **kwargs)


def largest_difference(got: Any, expected: Any) -> float:
    """Return the largest difference over all outputs, relative to the largest value of each."""
    worst = 0.0
    ours, theirs = pytree.tree_leaves(got), pytree.tree_leaves(expected)
    if len(ours) != len(theirs):
        return float("inf")
    for x, y in zip(ours, theirs):
        if not isinstance(y, Tensor):
            continue
        if x.shape != y.shape:
            return float("inf")
        if y.is_floating_point() and y.numel():
            x, y = x.detach(), y.detach()
            delta = float((x - y).abs().max()) / max(1e-9, float(y.abs().max()))
            worst = delta if delta > worst or delta != delta else worst
    return worst


def silence_removed(model: nn.Module, net: Network, plan: Plan) -> nn.Module:
    """Return a copy of a model with the removed indices set to zero in every tensor."""
    masked = copy.deepcopy(model)
    tensors = named_tensors(masked, tied=True)
    with torch.no_grad():
        for name, kept in plan.keep.items():
            dim = net.dims[name]
            gone = torch.ones(dim.size, dtype=torch.bool)
            gone[list(kept)] = False
            for slot in dim.slots:
                if slot.role == "other":  # neither writes nor reads: it may be a divisor
                    continue
                owner = torch.from_numpy(slot.owner)
                positions = torch.nonzero((owner >= 0) & gone[owner.clamp(min=0)]).flatten()
                tensors[slot.tensor].index_fill_(slot.axis, positions, 0.0)
    return masked


def _randomize(x: Any, generator: torch.Generator) -> Any:
    """Return normally distributed values in the place of a tensor of floats."""
    if isinstance(x, Tensor) and x.is_floating_point():
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x


class _MaskedInterpreter(AlignedInterpreter):
    """Runs the dense graph with tensors silenced, joins dropped, reductions over what stays.

    What runs along a cut axis (normalization, mean, softmax, a product of two activations) must
    not see the removed positions: they need not be zero there, as an activation of zero need not.
    """

    def __init__(self, net: Network, plan: Plan) -> None:
        module = silence_removed(net.module, net, plan)
        assert isinstance(module, fx.GraphModule)
        super().__init__(module.eval(), {})
        self.joins = {
            net.blocks[name].join: net.blocks[name].nodes for name in plan.dropped_blocks()
        }
        keep = plan.atom_masks(net)
        self.kept: dict[str, dict[int, Tensor]] = {}
        self.groups: dict[str, int] = {}
        for node, dims in net.axis_map.reduction_axes.items():
            axes = net.axis_map.axes_of(node.all_input_nodes[0])
            masks = {d: torch.from_numpy(kept_mask(axes[d], keep)) for d in dims}
            if not all(bool(kept.all()) for kept in masks.values()):
                self.kept[node.name] = {d: kept.nonzero().flatten() for d, kept in masks.items()}
            if operator_name(node) == "group_norm":
                groups = net.axis_map.symbolic_arguments[node].get((1,))
                self.groups[node.name] = int(kept_mask(groups, keep).sum()) if groups else 1

    @property
    def changes(self) -> bool:
        """Whether silenced tensors alone do not make the graph the oracle."""
        return bool(self.joins or self.kept or self.choices)

    def run_node(self, n: fx.Node) -> Any:
        """Run one node as if the removed positions were not there."""
        nodes = self.joins.get(n.name)
        if nodes is not None:
            skip = next(s for s in n.args[:2] if isinstance(s, fx.Node) and s.name not in nodes)
            return self.env[skip]
        kept = self.kept.get(n.name)
        if kept is None:
            return super().run_node(n)
        x: Tensor = self.env[n.all_input_nodes[0]]
        name, layer = operator_name(n), get_layer(self.module, n)
        norm = isinstance(layer, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm)
        if norm or name in ("layer_norm", "rms_norm", "group_norm"):
            return self._normalize(n, layer, x, kept)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        target: Any = n.target if layer is None else layer
        if name in REDUCTIONS:
            return target(_select_kept(x, kept), *args[1:], **kwargs)
        if "softmax" in name or name == "batch_norm":
            return _scatter_kept(target(_select_kept(x, kept), *args[1:], **kwargs), x, kept)
        silent = _scatter_kept(_select_kept(x, kept), x, kept)
        if name == "einsum":
            return target(args[0], [silent, *args[1][1:]])
        return target(silent, *args[1:], **kwargs)

    def _normalize(self, n: fx.Node, layer: Any, x: Tensor, kept: dict[int, Tensor]) -> Tensor:
        """Return a normalization over the kept positions, zero elsewhere."""
        if layer is not None:
            weight, bias, eps = layer.weight, getattr(layer, "bias", None), layer.eps
        else:
            values = {k: self.env.get(v, v) for k, v in operator_arguments(n).items()}
            weight, bias, eps = values["weight"], values.get("bias"), values["eps"]
        first = min(kept)
        own = {d - first: index for d, index in kept.items()}
        small = _select_kept(x, kept)
        weight, bias = (t if t is None else _select_kept(t, own) for t in (weight, bias))
        shape = [len(index) for index in kept.values()]
        if n.name in self.groups:
            value = functional.group_norm(small, self.groups[n.name], weight, bias, eps)
        elif isinstance(layer, nn.RMSNorm) or "rms" in operator_name(n):
            value = functional.rms_norm(small, shape, weight, eps)
        else:
            value = functional.layer_norm(small, shape, weight, bias, eps)
        return _scatter_kept(value, x, kept)


def _select_kept(x: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    """Return the kept positions of every axis."""
    for d, index in kept.items():
        x = x.index_select(d, index)
    return x


def _scatter_kept(value: Tensor, like: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    """Return values at the kept positions of a tensor like another, zero elsewhere."""
    full = value
    for d, index in kept.items():
        shape = (*full.shape[:d], like.shape[d], *full.shape[d + 1 :])
        full = full.new_zeros(shape).index_copy(d, index, full)
    return full
