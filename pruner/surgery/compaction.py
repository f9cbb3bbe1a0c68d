"""Compacts a Network to what a plan leaves of it, and scatters what is found there back.

Pruning in rounds looks at the network of the round before, tuned, and decides anew. Plans and
latencies stay those of the dense Network throughout; only scores and weights come from the
narrower one.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..axes import kept_mask
from ..errors import PrunerError
from ..graph import named_tensors
from ..structure import Importance, Network, Plan, build_network
from .apply import cut_network


def compact_network(net: Network, plan: Plan) -> Network:
    """Return the Network of a cut network: its Dims have what the plan keeps, in the same steps.

    Dims, Blocks and cells keep their names; those that lie in dropped blocks are missing. Raises
    PrunerError where the cut network is not understood as the dense one was.
    """
    program, keep = cut_network(net, plan), plan.atom_masks(net)
    axes = {node.name: known for node, known in net.axis_map.axes.items()}
    for node in program.graph.nodes:
        if node.meta.get("shape") is not None:
            node.meta["shape"] = _cut_shape(axes[node.name], node.meta["shape"], keep)
    small = build_network(program, net.inputs, net.name, type(net.module).__name__)
    names = _match_dims(small, net, plan, keep)
    _check_names({cell.name for cell in small.cells()}, {cell.name for cell in net.cells()}, net)
    _check_names(set(small.blocks), set(net.blocks), net)
    return replace(
        small,
        dims={
            names[name]: replace(
                dim, name=names[name], step=min(net.dims[names[name]].step, dim.size)
            )
            for name, dim in small.dims.items()
        },
        atoms={names[name]: small.atoms[name] for name in small.dims},
        located=tuple(
            replace(p, cell=replace(p.cell, dims=tuple(names[name] for name in p.cell.dims)))
            for p in small.located
        ),
    )


def _match_dims(
    small: Network, net: Network, plan: Plan, keep: Mapping[Any, Any]
) -> dict[str, str]:
    """Return the dense network's names of the Dims, known by where their indices lie."""
    axes = {str(n.target): a for n, a in net.axis_map.axes.items() if n.op == "get_attr"}
    found: dict[str, str] = {}
    for name, own in small.dims.items():
        for other, dim in net.dims.items():
            kept = plan.keep.get(other, range(dim.size))
            rank = np.full(dim.size + 1, -1)  # the last for positions that are of no index
            rank[list(kept)] = np.arange(len(kept))
            theirs = {(s.tensor, s.axis): s.owner for s in dim.slots}
            if other not in found.values() and any(
                np.array_equal(rank[owner[kept_mask(axes[s.tensor][s.axis], keep)]], s.owner)
                for s in own.slots
                if (owner := theirs.get((s.tensor, s.axis))) is not None
            ):
                found[name] = other
                break
    _check_names(set(small.dims), set(found), net)
    return found


def _check_names(small: set[str], dense: set[str], net: Network) -> None:
    """Raise PrunerError for names of the cut network that the dense one has not."""
    unknown = sorted(small - dense)
    if unknown:
        raise PrunerError(
            f"{net.name}: the cut network has parts that the dense one has not "
            f"({', '.join(unknown[:3])}): prune this network in one round"
        )


def _cut_shape(axes: Any, shape: Any, keep: Mapping[Any, Any]) -> Any:
    """Return a shape (or a list of them) with every axis as long as the masks leave it."""
    if isinstance(shape, list):
        return [_cut_shape(own, one, keep) for own, one in zip(axes, shape, strict=True)]
    if shape is None:
        return None
    return tuple(int(kept_mask(axis, keep).sum()) for axis in axes)


def scatter_importance(importance: Importance, net: Network, plan: Plan) -> Importance:
    """Return scores of ``compact_network(net, plan)`` as scores of net; what is cut has zero."""
    parts, loss_curves = {}, {}
    for name, dim in net.dims.items():
        kept = list(plan.keep.get(name, range(dim.size)))
        parts[name] = {"": np.zeros(dim.size)}
        for cell, values in importance.parts.get(name, {}).items():
            parts[name][cell] = np.zeros(dim.size)
            parts[name][cell][kept] = values
        curve = importance.loss_curves.get(name)
        if curve is not None:
            # Its options are those of the Dim up to the kept size; larger ones are not admitted.
            loss_curves[name] = np.concatenate([curve, np.zeros(len(dim.options()) - len(curve))])
    return Importance(importance.criterion, parts, importance.blocks, loss_curves)


def scatter_tensors(net: Network, plan: Plan, module: nn.Module) -> dict[str, Tensor]:
    """Return a cut network's tensors in the places that ``apply(net, plan)`` takes them from.

    What the plan cuts is zero, what lies in dropped blocks is as it was.
    """
    own, keep = named_tensors(module), plan.atom_masks(net)
    tensors = dict(net.program.tensors)
    for node in net.program.graph.nodes:
        name = str(node.target)
        if node.op != "get_attr" or name not in own:
            continue
        value = own[name].detach().cpu()
        for axis, positions in enumerate(net.axis_map.axes[node]):
            kept = torch.from_numpy(np.flatnonzero(kept_mask(positions, keep)))
            shape = [*value.shape[:axis], positions.size, *value.shape[axis + 1 :]]
            value = value.new_zeros(shape).index_copy(axis, kept, value)
        tensors[name] = value.contiguous()
    return tensors
