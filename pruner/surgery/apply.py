"""Applies a Plan: the smaller network as a Program and as a module of its own."""

from torch import fx

from ..axes import cut_program
from ..graph import Program, materialize
from ..structure import Network, Plan


def apply(net: Network, plan: Plan) -> fx.GraphModule:
    """Return the smaller network of a plan, with copies of the kept weights, in eval mode.

    Raises PlanError where the plan names what the network has not.
    """
    return materialize(cut_network(net, plan), net.name)


def cut_network(net: Network, plan: Plan) -> Program:
    """Return the smaller network of a plan as a Program; raise PlanError as `apply` does."""
    plan.check(net)
    dropped = [net.blocks[name] for name in plan.dropped_blocks()]
    return cut_program(net.axis_map, plan.atom_masks(net), dropped)
