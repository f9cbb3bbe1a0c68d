"""The objective: the importance that a structure keeps, as tables over its sizes and Blocks."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from solver import Table

from ..structure import (
    Importance,
    Network,
    Plan,
    enclosing_blocks,
    encode_choice,
    keep_variable,
    rank_indices,
    size_variable,
)


def objective_value(
    net: Network,
    importance: Importance,
    sizes: Mapping[str, int] | None = None,
    dropped: tuple[str, ...] = (),
) -> float:
    """Return the objective at one structure (nothing named: the dense network)."""
    return sum(objective_terms(net, importance, sizes, dropped))


def objective_terms(
    net: Network,
    importance: Importance,
    sizes: Mapping[str, int] | None = None,
    dropped: tuple[str, ...] = (),
) -> list[float]:
    """Return the terms of the objective at one structure (nothing named: the dense network).

    Of an importance with loss curves there is one term a curve, then one a Block.
    """
    choice = encode_choice(net, sizes, dropped)
    return [
        float(np.asarray(table.value)[tuple(choice[variable] for variable in table.scope)])
        for table in tabulate_importance(net, importance)
    ]


def tabulate_importance(
    net: Network, importance: Importance, beyond: Plan | None = None
) -> list[Table]:
    """Return the objective as tables: what every Dim's best n indices are worth, then Blocks.

    The indices that a plan ``beyond`` keeps count as the best.

    A Dim with a loss curve has one table of it, any other one for each tuple of Blocks that its
    parts lie in: what lies in a dropped Block is worth nothing.
    """
    located = {cell.cell.name: cell for cell in net.located}
    tables = list(_tabulate_loss_curves(net, importance))
    for name, dim in net.dims.items():
        if name in importance.loss_curves:
            continue
        first = () if beyond is None else beyond.keep.get(name, ())
        order, options = rank_indices(importance, name, first), np.array(dim.options())
        by_blocks: dict[tuple[str, ...], NDArray[np.float64]] = {}
        for cell, part in importance.parts.get(name, {}).items():
            blocks = located[cell].blocks if cell else ()
            kept = np.concatenate([[0.0], np.cumsum(np.asarray(part, float)[order])])[options]
            by_blocks[blocks] = by_blocks.get(blocks, 0.0) + kept
        for blocks, kept in by_blocks.items():
            label = name + (f" in {blocks[-1]}" if blocks else "")
            tables.append(_tabulate(label, blocks, size_variable(name), kept))
    if not importance.loss_curves:
        tables.extend(_correct_blocks(net, importance, tables))
    return tables


def gate(
    blocks: Sequence[str], values: NDArray[np.float64]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return variables of Blocks and values [2 for each Block, ...]: zero unless all are kept."""
    gated = np.zeros((2,) * len(blocks) + values.shape)
    gated[(1,) * len(blocks)] = values
    return tuple(keep_variable(name) for name in blocks), gated


def _tabulate_loss_curves(net: Network, importance: Importance) -> Iterator[Table]:
    """Yield losses by width against the uncut network; the sizes of a dropped Block lose nothing.

    A dropped Block loses what its bypass was measured to lose.
    """
    for name, curve in importance.loss_curves.items():
        inside = enclosing_blocks(net, name)
        blocks = [block for block in net.blocks if block in inside]
        yield _tabulate(name, blocks, size_variable(name), -np.asarray(curve, float))
    if importance.loss_curves:
        for name, loss in importance.blocks.items():
            yield _tabulate_block(net, name, np.array([-max(loss, 0.0), 0.0]))


def _correct_blocks(
    net: Network, importance: Importance, tables: Sequence[Table]
) -> Iterator[Table]:
    """Yield what a Block was measured to be worth, less what the tables in it add up to."""
    known = list(tables)
    for name, measured in importance.blocks.items():
        own = keep_variable(name)
        parts = [t.value for t in known if own in t.scope and t.value is not None]
        missing = measured - sum(float(value.ravel()[-1]) for value in parts)
        known.append(_tabulate_block(net, name, np.array([0.0, missing])))
        yield known[-1]


def _tabulate_block(net: Network, name: str, values: NDArray[np.float64]) -> Table:
    """Return the table of a Block, dropped and kept, by the Blocks that it lies in."""
    label = f"block {name}" if name in net.dims else name  # a layer may be a Dim's and a Block
    return _tabulate(label, net.blocks[name].inside, keep_variable(name), values)


def _tabulate(
    label: str, blocks: Sequence[str], variable: str, values: NDArray[np.float64]
) -> Table:
    """Return the table of a variable's values, zero unless these Blocks are kept."""
    gates, gated = gate(blocks, values)
    return Table(f"importance of {label}", (*gates, variable), gated, {})
