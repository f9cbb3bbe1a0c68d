"""CutAxes: which positions of a network's values a plan keeps, and what reads cut axes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import fx

from ..axes import kept_mask
from ..graph import find_input_dependent, operator_name
from ..structure import Network, Plan

_READS_NO_NUMBERS = ("type_as", "sym_size", "getattr")


class CutAxes:
    """The axes of a network's values under one plan."""

    def __init__(self, net: Network, plan: Plan) -> None:
        self.net = net
        self._masks = plan.atom_masks(net)
        self._nodes = {node.name: node for node in net.axis_map.program.graph.nodes}
        self._live = find_input_dependent(net.axis_map.program.graph)
        self._tensors = {str(node.target): node for node in net.axis_map.tensor_nodes()}

    def find_kept(self, name: str) -> list[NDArray[np.bool_]]:
        """Return what is kept along every axis of a node's value."""
        node = self._nodes[name]
        return [kept_mask(axis, self._masks) for axis in self.net.axis_map.axes_of(node)]

    def find_kept_entries(self, tensor: str) -> list[NDArray[np.bool_]]:
        """Return what is kept along every axis of a parameter."""
        node = self._tensors[self.net.program.tied.get(tensor, tensor)]
        return [kept_mask(axis, self._masks) for axis in self.net.axis_map.axes_of(node)]

    def reads_cut(self, name: str) -> bool:
        """Whether an operator sums, averages or normalizes along an axis that is cut."""
        node = self._nodes.get(name)
        if node is None:
            return False
        if any(True for _ in self._list_reading(node)):
            return True
        along = self.net.axis_map.reduction_axes.get(node, ())
        known = self.net.axis_map.axes.get(node.all_input_nodes[0]) if along else None
        if not known or isinstance(known[0], list):
            return False
        return any(not kept_mask(known[axis], self._masks).all() for axis in along)

    def list_reading_weights(self, name: str) -> list[str]:
        """Return the weights by which an operator reads a cut axis; computed ones by their node."""
        node = self._nodes.get(name)
        found = () if node is None else self._list_reading(node)
        return [_name_source(source) for source in found if source not in self._live]

    def _list_reading(self, node: fx.Node) -> Iterator[fx.Node]:
        """Yield what an operator sums over a cut axis with: weights, or values by values."""
        known = self.net.axis_map
        if operator_name(node) in _READS_NO_NUMBERS:
            return
        for source in node.all_input_nodes:
            axes = known.axes.get(source) or ()
            for place, axis in enumerate(axes):
                if source.op == "get_attr":
                    role = known.roles.get((str(source.target), place))
                else:
                    role = known.computed_roles.get((source, place))
                if (
                    role == "in"
                    and not isinstance(axis, list)
                    and not kept_mask(axis, self._masks).all()
                ):
                    yield source
                    break


def _name_source(source: fx.Node) -> str:
    return str(source.target) if source.op == "get_attr" else source.name
