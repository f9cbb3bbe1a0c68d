"""Apply a plan: the smaller network as a module of its own."""

from __future__ import annotations

from torch import fx

from ..axes import cut_program
from ..graph import materialize
from ..structure import Network, Plan


def apply(net: Network, plan: Plan) -> fx.GraphModule:
    """The smaller network that a plan describes, with copies of the kept weights, in eval mode.

    Raises :class:`PlanError` where the plan names what the network has not.
    """
    plan.check(net)
    keep = {net.atoms[name]: kept for name, kept in plan.masks(net).items()}
    dropped = [net.blocks[name] for name in plan.dropped_blocks()]
    return materialize(cut_program(net.axis_map, keep, dropped), net.name)
