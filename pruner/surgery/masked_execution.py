"""Runs a dense graph as if the indices that a plan removes were not there.

After every operator, the removed positions of its result are set to zero, whatever it computed
there: so a weight that passes through operators before it is used is silenced like any other. What
runs along a cut axis (normalization, mean, softmax) sees the kept positions only.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from ..axes import AVERAGES, COUNTS, EXTREMES, REDUCTIONS, SOFTMAXES
from ..graph import is_mutable, operator_arguments, operator_name
from ..structure import Network, Plan
from .kept_positions import Kept, KeptPositions
from .topk_alignment import AlignedInterpreter


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
        self.axis_map = net.axis_map
        self.positions = KeptPositions(net.axis_map, plan.atom_masks(net))
        self.found: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node as if the removed positions were not there."""
        nodes = self.joins.get(n.name)
        if nodes is not None:
            skip = next(s for s in n.args[:2] if isinstance(s, fx.Node) and s.name not in nodes)
            self.found[n] = self.positions.find(n, self.env[skip])
            return self.env[skip]
        reduced = self._find_reduced(n)
        if n.op == "get_attr":
            value: Any = self.tensors[str(n.target)].detach()
            if any(is_mutable(user) for user in n.users):
                value = value.clone()
        elif reduced:
            value = self._reduce(n, reduced)
        else:
            value = super().run_node(n)
        self.found[n] = self.positions.find(n, value)
        return _silence(value, self.found[n])

    def _find_reduced(self, n: fx.Node) -> Kept:
        """Return the kept positions of the cut axes that an operator works along."""
        dims = self.axis_map.reduction_axes.get(n, ())
        kept: Kept = self.found[n.all_input_nodes[0]] if dims else {}
        return {d: index for d, index in kept.items() if d in dims}

    def _reduce(self, n: fx.Node, kept: Kept) -> Any:
        """Run an operator that works along cut axes over their kept positions."""
        x: Tensor = self.env[n.all_input_nodes[0]]
        name = operator_name(n)
        if name in ("layer_norm", "rms_norm", "group_norm"):
            return self._normalize(n, x, kept)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        target: Any = n.target
        if name in (*REDUCTIONS, *COUNTS, *EXTREMES):
            return target(_select_kept(x, kept), *args[1:], **kwargs)
        if name in (*SOFTMAXES, "batch_norm", "instance_norm"):
            return _scatter_kept(target(_select_kept(x, kept), *args[1:], **kwargs), x, kept)
        whole: Tensor = super().run_node(n)
        if name in AVERAGES:  # over neighbours, of which there are others
            left = {d: i for d, i in self.positions.find(n, whole).items() if d in kept}
            return _scatter_kept(target(_select_kept(x, kept), *args[1:], **kwargs), whole, left)
        return whole  # a product: it sums over zeros

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
            t if t is None else _select_kept(t, {d: i for d, i in own.items() if d < t.dim()})
            for t in (values["weight"], values.get("bias"))
        )
        shape, eps = list(small.shape[first:]), values["eps"]
        if operator_name(n) == "group_norm":
            axis = self.axis_map.symbolic_arguments[n].get((1,))
            groups = self.positions.count(axis) if axis else 1
            value = functional.group_norm(small, groups, weight, bias, eps)
        elif operator_name(n) == "rms_norm":
            value = functional.rms_norm(small, shape, weight, eps)
        else:
            value = functional.layer_norm(small, shape, weight, bias, eps)
        return _scatter_kept(value, x, kept)


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
