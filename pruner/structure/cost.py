"""Counts the multiply-adds and parameters of a structure, exactly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from torch import fx

from ..axes import (
    CONVOLUTIONS,
    GATES,
    PRODUCTS,
    TRANSPOSED,
    Atom,
    Axes,
    Axis,
    AxisMap,
    atoms_of,
    axis_size,
    parse_equation,
)
from ..graph import operator_arguments, operator_name
from .allocations import Clause, check_clauses, list_weights
from .network import Network
from .residual_blocks import index_blocks


def count_macs(
    net: Network, sizes: Mapping[str, int] | None = None, dropped: Sequence[str] = ()
) -> int:
    """Return the multiply-adds of convolutions, linear layers and matrix products for one input."""
    return Cost.of_macs(net).count(sizes, dropped)


def count_parameters(
    net: Network, sizes: Mapping[str, int] | None = None, dropped: Sequence[str] = ()
) -> int:
    """Return the number of parameters (not buffers)."""
    return Cost.of_parameters(net).count(sizes, dropped)


@dataclass(frozen=True)
class _Term:
    """A product of the sizes of axes, which counts where all clauses are true."""

    axes: tuple[Axis, ...]
    clauses: tuple[Clause, ...]

    def count(self, by_atom: Mapping[Atom, int], gone: set[str]) -> int:
        if not check_clauses(self.clauses, gone):
            return 0
        return prod(axis_size(axis, by_atom) for axis in self.axes)


_Key: TypeAlias = Atom | str


class Cost:
    """A sum of products of sizes over a network, read once, to be asked for many structures.

    What a structure leaves as it is in the dense network is not counted again.
    """

    def __init__(
        self, net: Network, terms: Iterable[_Term], fixed: Mapping[Atom, int] | None = None
    ) -> None:
        self._atoms, self._fixed = net.atoms, dict(fixed or {})
        self._terms = tuple(terms)
        self._dense = [term.count(self._fixed, set()) for term in self._terms]
        self.dense = sum(self._dense)
        self._touched: dict[_Key, set[int]] = defaultdict(set)
        for i, term in enumerate(self._terms):
            keys: list[_Key] = [atom for axis in term.axes for atom in atoms_of(axis)]
            keys += [name for clause in term.clauses for names in clause for name in names]
            for key in keys:
                self._touched[key].add(i)

    @classmethod
    def of_macs(cls, net: Network) -> Cost:
        """Return what `count_macs` asks."""
        terms = (
            _Term(tuple(axes), tuple(((name,),) for name in blocks))
            for axes, blocks in list_macs(net)
        )
        return cls(net, terms, {net.axis_map.batch: 1})

    @classmethod
    def of_parameters(cls, net: Network) -> Cost:
        """Return what `count_parameters` asks."""
        return cls(net, (_Term(one.axes, one.clauses) for one in list_weights(net) if one.trained))

    def count(self, sizes: Mapping[str, int] | None = None, dropped: Sequence[str] = ()) -> int:
        """Return the sum where Dims have these sizes (missing: uncut) without dropped Blocks."""
        changed = {self._atoms[name]: size for name, size in (sizes or {}).items()}
        by_atom, gone = {**changed, **self._fixed}, set(dropped)
        keys: list[_Key] = [*changed, *gone]
        touched = {i for key in keys for i in self._touched.get(key, ())}
        return self.dense + sum(
            self._terms[i].count(by_atom, gone) - self._dense[i] for i in touched
        )


def list_macs(net: Network) -> Iterator[tuple[Axes, tuple[str, ...]]]:
    """Yield axes whose sizes multiply to multiply-adds of an operator, and its Blocks."""
    around = index_blocks(net.blocks)
    for node in net.program.graph.nodes:
        if node.op == "call_function":
            for axes in _list_products(net.axis_map, node):
                yield axes, around.get(node.name, ())


def _list_products(axis_map: AxisMap, node: fx.Node) -> Iterator[Axes]:
    """Yield the axes over which an operator multiplies and adds; nothing for one that does not."""
    name = operator_name(node)
    if name in (*CONVOLUTIONS, "deform_conv2d", "linear", "bilinear"):
        weight = axis_map.axes_of(operator_arguments(node)["weight"])
        if name in TRANSPOSED:  # an upper bound: counted at every output position
            summed = [weight[0], *weight[2:]]
        else:
            summed = weight[-1:] if name == "linear" else weight[1:]
        yield [*axis_map.axes_of(node), *summed]
    elif name in PRODUCTS:
        place = int(name in ("addmm", "baddbmm"))  # their first is added: a bias
        yield [*axis_map.axes_of(node), *axis_map.axes_of(node.args[place])[-1:]]
    elif name == "einsum":
        yield from _list_einsum(axis_map, node)
    elif name == "scaled_dot_product_attention":
        args = operator_arguments(node)  # per output: one product with V, and its share of Q K^T
        yield [*axis_map.axes_of(node), axis_map.axes_of(args["key"])[-2]]
    elif name in GATES:
        args = operator_arguments(node)
        for weight in args.get("params") or ():
            if len(axis_map.axes_of(weight)) == 2 and "input" in args:
                yield [*axis_map.axes_of(args["input"])[:-1], *axis_map.axes_of(weight)]


def _list_einsum(axis_map: AxisMap, node: fx.Node) -> Iterator[Axes]:
    """Yield the axes of an einsum's products of two operands, taken from left to right."""
    equation, operands = node.args[:2]
    rows = [axis_map.axes_of(operand) for operand in operands]  # type: ignore[union-attr]
    terms, output = parse_equation(str(equation), [len(row) for row in rows])
    size_of: dict[str, Axis] = {}
    for term, row in zip(terms, rows):
        for letter, axis in zip(term, row):
            if letter not in size_of or size_of[letter].size < axis.size:
                size_of[letter] = axis
    left = set(terms[0])
    for i, term in enumerate(terms[1:], 2):
        yield [size_of[letter] for letter in sorted(left.union(term))]
        left = left.union(term).intersection("".join([output, *terms[i:]]))
