"""Runs a dense graph as if the indices that a plan removes were not there.

After every operator, the removed positions of its result are set to zero, whatever it computed
there: so a weight that passes through operators before it is used is silenced like any other. What
runs along a cut axis (normalization, mean, softmax) sees the kept positions only.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from ..axes import EXTREMES, REDUCTIONS, Atom, Axes, Keep, kept_mask, resolve_axis
from ..graph import is_mutable, operator_arguments, operator_name
from ..structure import Network, Plan, get_batch_size
from .topk_alignment import AlignedInterpreter

Kept = dict[int, Tensor]
"""Axis -> [kept positions] int, of the axes that are cut."""


class MaskedInterpreter(AlignedInterpreter):
    """Runs the dense graph of operators with values silenced, joins dropped, statistics adapted.

    Silencing: removed positions neither write nor are read, since they are zero in every value. A
    product sums over zeros there; what is defined over any number of positions runs over those
    that are kept.
    """

    def __init__(self, net: Network, plan: Plan) -> None:
        super().__init__(nn.Module(), {}, net.program.graph)
        self.tensors = net.program.tensors
        self.joins = {
            net.blocks[name].join: net.blocks[name].nodes for name in plan.dropped_blocks()
        }
        # The batch is whole, at the size of the example inputs: heads may be folded into it.
        whole = resolve_axis(net.axis_map.batch)  # rules may have found it to be another atom
        batch = {whole: np.ones(get_batch_size(net), bool)} if isinstance(whole, Atom) else {}
        keep, axes = plan.atom_masks(net) | batch, net.axis_map.axes
        self.kept: dict[str, Any] = {n.name: _find_kept(axes[n], keep) for n in axes}
        self.reduced: dict[str, Kept] = {}
        self.groups: dict[str, int] = {}
        for node, dims in net.axis_map.reduction_axes.items():
            kept = _find_kept(net.axis_map.axes_of(node.all_input_nodes[0]), keep)
            reduced = {d: index for d, index in kept.items() if d in dims}
            if reduced:
                self.reduced[node.name] = reduced
            if operator_name(node) == "group_norm":
                groups = net.axis_map.symbolic_arguments[node].get((1,))
                self.groups[node.name] = int(kept_mask(groups, keep).sum()) if groups else 1

    def run_node(self, n: fx.Node) -> Any:
        """Run one node as if the removed positions were not there."""
        nodes = self.joins.get(n.name)
        if nodes is not None:
            skip = next(s for s in n.args[:2] if isinstance(s, fx.Node) and s.name not in nodes)
            return self.env[skip]
        if n.op == "get_attr":
            value: Any = self.tensors[str(n.target)].detach()
            if any(is_mutable(user) for user in n.users):
                value = value.clone()
        elif n.name in self.reduced:
            value = self._reduce(n, self.reduced[n.name])
        else:
            value = super().run_node(n)
        return _silence(value, self.kept.get(n.name))

    def _reduce(self, n: fx.Node, kept: Kept) -> Any:
        """Run an operator that works along cut axes over their kept positions."""
        x: Tensor = self.env[n.all_input_nodes[0]]
        name = operator_name(n)
        if name in ("layer_norm", "rms_norm", "group_norm"):
            return self._normalize(n, x, kept)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        target: Any = n.target
        if name in (*REDUCTIONS, *EXTREMES):
            return target(_select_kept(x, kept), *args[1:], **kwargs)
        if "softmax" in name or name == "batch_norm":
            return _scatter_kept(target(_select_kept(x, kept), *args[1:], **kwargs), x, kept)
        return super().run_node(n)  # a product: it sums over zeros

    def _normalize(self, n: fx.Node, x: Tensor, kept: Kept) -> Tensor:
        """Return a normalization over the kept positions, zero elsewhere."""
        values = {
            k: self.env[v] if isinstance(v, fx.Node) else v
            for k, v in operator_arguments(n).items()
        }
        first = len(x.shape) - len(values.get("normalized_shape", x.shape[1:]))
        own = {d - first: index for d, index in kept.items()}
        small = _select_kept(x, kept)
        weight, bias = (
            t if t is None else _select_kept(t, own) for t in (values["weight"], values.get("bias"))
        )
        shape, eps = list(small.shape[first:]), values["eps"]
        if n.name in self.groups:
            value = functional.group_norm(small, self.groups[n.name], weight, bias, eps)
        elif operator_name(n) == "rms_norm":
            value = functional.rms_norm(small, shape, weight, eps)
        else:
            value = functional.layer_norm(small, shape, weight, bias, eps)
        return _scatter_kept(value, x, kept)


def _find_kept(axes: Axes | list[Axes], keep: Keep) -> Any:
    """Return the kept positions of every axis that is cut, of each of several results a row."""
    if axes and isinstance(axes[0], list):
        return [_find_kept(row, keep) for row in axes if isinstance(row, list)]
    masks = {d: kept_mask(axis, keep) for d, axis in enumerate(axes)}  # type: ignore[arg-type]
    return {
        d: torch.from_numpy(np.flatnonzero(kept)) for d, kept in masks.items() if not kept.all()
    }


def _silence(value: Any, kept: Any) -> Any:
    """Return a value with zeros at its removed positions; a view of it keeps its memory."""
    if isinstance(value, list | tuple) and isinstance(kept, list):
        return type(value)(_silence(v, k) for v, k in zip(value, kept, strict=True))
    if not kept or not isinstance(value, Tensor):
        return value
    for d, gone in _invert(value, kept):
        value = value.index_fill(d, gone, 0)
    return value


def _invert(value: Tensor, kept: Kept) -> Iterator[tuple[int, Tensor]]:
    """Yield the removed positions of every axis that is cut."""
    for d, index in kept.items():
        gone = torch.ones(value.shape[d], dtype=torch.bool)
        gone[index] = False
        yield d, gone.nonzero().flatten().to(value.device)


def _select_kept(x: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    """Return the kept positions of every axis."""
    for d, index in kept.items():
        x = x.index_select(d, index.to(x.device))
    return x


def _scatter_kept(value: Tensor, like: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    """Return values at the kept positions of a tensor like another, zero elsewhere."""
    full = value
    for d, index in kept.items():
        shape = (*full.shape[:d], like.shape[d], *full.shape[d + 1 :])
        full = full.new_zeros(shape).index_copy(d, index.to(full.device), full)
    return full
