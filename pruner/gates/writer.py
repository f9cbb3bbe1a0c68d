"""A copy of a network's graph that is rewritten to read through gates, one operator after another.

An operator that passes an axis on, position by position, is left as it is: what lies at a closed
position goes with it, and nothing reads it in the end. What ends a gated axis, or works along it,
has a handler in `HANDLERS`; where there is none, the gates are refused.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any, TypeAlias

import torch
from torch import fx

from ..axes import Atom, Axis, atoms_of, describe_node
from ..errors import PrunerError
from ..graph import find_input_dependent, operator_name, operator_schema
from ..structure import Network
from .layout import GateReader
from .weighted import gate_positions

_LIKE_OTHERS = ("to", "type_as", "view_as", "reshape_as", "expand_as")
"""Operators that look at the shape or type of a second tensor only."""
_PARTS = ("slice", "getitem")
"""Operators that leave positions out."""
Operand: TypeAlias = tuple[tuple[int | str, ...], int]
"""Where an operand stands in a node's arguments, and one of its axes."""


class GateWriter:
    """Rewrites a copy of a network's graph.

    Attributes:
        axis_map: The axes of the network's own nodes.
        graph: The copy.
        copies: The network's nodes -> those of the copy.
        reader: Gives the nodes in which the gates of axes stand.
    """

    def __init__(self, net: Network, names: Mapping[str, str], dtype: torch.dtype) -> None:
        """Copy a network's graph, with gates of these Dims in tensors of these names."""
        original = net.program.graph
        self.axis_map = net.axis_map
        self.graph = copy.deepcopy(original)
        self.copies: dict[fx.Node, fx.Node] = dict(zip(original.nodes, self.graph.nodes))
        atoms = {net.atoms[dim]: name for dim, name in names.items()}
        self.reader = GateReader(self.graph, atoms, dtype)
        self._dims = {net.atoms[dim]: dim for dim in names}
        self._live = find_input_dependent(original, sizes=True)
        self._scaled: dict[tuple[fx.Node, tuple[tuple[int, fx.Node], ...]], fx.Node] = {}

    def reads_gated(self, node: fx.Node) -> bool:
        """Return whether a node reads a value that holds gated atoms."""
        axes = (axis for source in node.all_input_nodes for axis in self.axis_map.all_axes(source))
        return any(map(self.is_gated, axes))

    def rewrite(self) -> None:
        """Let every node read its gated operands through gates.

        Raises:
            PrunerError: There is a node that cannot.
        """
        for node in self.copies:
            if self.reads_gated(node):
                HANDLERS.get(operator_name(node), GateWriter.check_passed)(self, node)

    def is_gated(self, axis: Axis) -> bool:
        """Return whether an axis holds an atom with gates."""
        return bool(self.reader.list_atoms(axis))

    def find_gates(self, axes: Sequence[Axis], dims: Iterable[int]) -> dict[int, fx.Node]:
        """Return the gates of those of these axes that have any, by axis."""
        spread = {d: self.reader.spread(axes[d]) for d in dims}
        return {d: gate for d, gate in spread.items() if gate is not None}

    def scale_one(self, node: fx.Node, operands: Sequence[Operand]) -> None:
        """Multiply one of the operands that are multiplied along an axis by the axis's gates.

        It is a weight where there is one, else the smaller operand.
        """
        rated = []
        for place, axis in operands:
            source = get_argument(node, place)
            if self.is_gated(self.axis_map.axes_of(source)[axis]):
                rated.append((source in self._live, prod(source.meta["shape"]), place, axis))
        if rated:
            _, _, place, axis = min(rated, key=lambda one: one[:2])
            self.scale(node, place, (axis,))

    def scale(self, node: fx.Node, place: tuple[int | str, ...], dims: Iterable[int]) -> None:
        """Multiply an operand by the gates of some of its axes."""
        source = get_argument(node, place)
        gates = self.find_gates(self.axis_map.axes_of(source), dims)
        self.scale_by(node, place, gates)

    def scale_by(
        self, node: fx.Node, place: tuple[int | str, ...], gates: Mapping[int, fx.Node]
    ) -> None:
        """Multiply an operand along axes by what nodes give."""
        if not gates:
            return
        source = get_argument(node, place)
        own, key = self.copies[node], tuple(sorted(gates.items(), key=lambda item: item[0]))
        operand = get_argument(own, place)
        if (operand, key) not in self._scaled:
            with self.graph.inserting_after(operand):
                made = self.graph.call_function(gate_positions, (operand, key))
            made.meta = {k: source.meta.get(k) for k in ("shape", "dtype", "path")}
            self._scaled[operand, key] = made
        set_argument(own, place, self._scaled[operand, key])

    def replace(self, node: fx.Node, function: Callable[..., Any], *args: Any) -> None:
        """Let a node call another function, whose arguments may be nodes of the network's graph."""
        own = self.copies[node]
        own.target = function
        own.args = fx.node.map_arg(args, lambda one: self.copies.get(one, one))
        own.kwargs = {}

    def refuse(self, node: fx.Node, axes: Iterable[Axis], why: str) -> PrunerError:
        """Return the error that says of which Dims gates cannot be put through a node."""
        atoms = (atom for axis in axes for atom in self.reader.list_atoms(axis))
        names = ", ".join(repr(self._dims[atom]) for atom in dict.fromkeys(atoms))
        return PrunerError(
            f"the Dim {names} cannot be gated: {describe_node(node)} {why}; "
            "name the other Dims in `dims`, or cut this one by `pruner.apply`"
        )

    def check_passed(self, node: fx.Node) -> None:
        """Raise PrunerError where a node that has no handler ends or works along a gated axis."""
        axis_map = self.axis_map
        along = axis_map.reduction_axes.get(node, ())
        if along:
            worked = [axis_map.axes_of(node.all_input_nodes[0])[d] for d in along]
            if any(map(self.is_gated, worked)):
                raise self.refuse(node, worked, "works along it in a way that has no weighted form")
        given: set[Atom] = {a for axis in axis_map.all_axes(node) for a in atoms_of(axis)}
        sources = node.all_input_nodes
        ended = [
            axis
            for source in (sources[:1] if operator_name(node) in _LIKE_OTHERS else sources)
            for axis in axis_map.all_axes(source)
            if not given.issuperset(self.reader.list_atoms(axis))
        ]
        name = operator_name(node)
        reads = name not in _PARTS and not name.startswith("new_")  # which look at the type alone
        if ended and reads and node.meta.get("shape") is not None:
            raise self.refuse(node, ended, "ends it in a way that is not known")


Handler: TypeAlias = Callable[[GateWriter, fx.Node], None]
HANDLERS: dict[str, Handler] = {}
"""Operator -> what rewrites a node that calls it, in place."""


def handle(*operators: str) -> Callable[[Handler], Handler]:
    """Return a decorator that registers a handler of ATen operators (names without overload)."""

    def register(function: Handler) -> Handler:
        for name in operators:
            assert name not in HANDLERS, name
            HANDLERS[name] = function
        return function

    return register


def find_place(node: fx.Node, name: str) -> tuple[int | str, ...]:
    """Return where an operator's argument stands in a node's."""
    names = [argument.name for argument in operator_schema(node.target).arguments]
    place = names.index(name)
    return (place,) if place < len(node.args) else (name,)


def get_argument(node: fx.Node, place: tuple[int | str, ...]) -> Any:
    """Return what stands at a place in a node's arguments."""
    first, *rest = place
    value: Any = node.kwargs[first] if isinstance(first, str) else node.args[first]
    for step in rest:
        value = value[step]
    return value


def set_argument(node: fx.Node, place: tuple[int | str, ...], value: Any) -> None:
    """Put something at a place in a node's arguments, in place."""

    def put(held: Any, steps: Sequence[Any]) -> Any:
        if not steps:
            return value
        return [put(x, steps[1:]) if i == steps[0] else x for i, x in enumerate(held)]

    first, *rest = place
    if isinstance(first, str):
        node.kwargs = {**node.kwargs, first: put(node.kwargs[first], rest)}
    else:
        node.args = tuple(put(a, rest) if i == first else a for i, a in enumerate(node.args))
