"""A Plan of what to keep of a network, as plain data that is saved as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solver import Solution

from ..axes import Atom
from ..errors import PlanError, first_line
from ..utils import parse_json, write_text
from .choice import decode_choice
from .cost import Cost
from .importance import Importance
from .network import Network


@dataclass(frozen=True)
class Plan:
    """The indices of Dims and the Blocks that are kept.

    Attributes:
        keep: Dim name -> the kept indices, ascending. A Dim that is not named stays whole.
        blocks: Block name -> whether it stays. A Block that is not named stays.
    """

    keep: Mapping[str, tuple[int, ...]]
    blocks: Mapping[str, bool]

    @classmethod
    def dense(cls, net: Network) -> Plan:
        """Return the plan that keeps everything."""
        return cls(
            {name: tuple(range(dim.size)) for name, dim in net.dims.items()},
            dict.fromkeys(net.blocks, True),
        )

    @classmethod
    def from_solution(
        cls,
        net: Network,
        solution: Solution,
        importance: Importance,
        within: Plan | None = None,
        beyond: Plan | None = None,
    ) -> Plan:
        """Return a plan of the chosen sizes with the most important indices of every Dim.

        Where within is given, its indices alone may be chosen, and where beyond is, those of its
        Dims come before all others (see `pruner.formulate`). Raises PlanError where the solution
        holds no choice.
        """
        if solution.choice is None:
            raise PlanError(f"the solution holds no choice: {solution.status}")
        sizes, dropped = decode_choice(net, solution.choice)
        keep = {}
        for name, size in sizes.items():
            best = rank_indices(
                importance, name, () if beyond is None else beyond.keep.get(name, ())
            )
            if within is not None:
                best = best[np.isin(best, within.keep.get(name, best))]
            keep[name] = tuple(sorted(int(i) for i in best[:size]))
        return cls(keep, {name: name not in dropped for name in net.blocks})

    @classmethod
    def random(
        cls, net: Network, macs: float = 0.5, seed: int = 0, drop_blocks: float = 0.0
    ) -> Plan:
        """Return a random valid plan with about this share of the dense multiply-adds.

        drop_blocks is the chance of each block to be dropped (before the widths are drawn). Blocks
        without which clearly less than the share would be left come back, the last drawn first.
        """
        if not 0 < macs <= 1:
            raise PlanError(f"a share of the multiply-adds lies in (0, 1], not {macs}")
        rng = np.random.default_rng(seed)
        blocks = {name: bool(rng.random() >= drop_blocks) for name in net.blocks}
        dropped = [name for name, stays in blocks.items() if not stays]
        rates = {name: rng.random() for name in net.dims}
        cost = Cost.of_macs(net)
        goal = macs * cost.dense
        while dropped and cost.count({}, dropped) < 0.8 * goal:
            blocks[dropped.pop()] = True

        def scale_sizes(level: float) -> dict[str, int]:
            """Return sizes that grow as the level goes from 0 to 1, each Dim's at its own rate."""
            chosen = {}
            for name, dim in net.dims.items():
                options = dim.options()
                share = level ** (0.25 + 2 * rates[name])
                chosen[name] = options[min(int(share * len(options)), len(options) - 1)]
            return chosen

        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            if cost.count(scale_sizes(middle), dropped) <= goal:
                low = middle
            else:
                high = middle
        keep = {
            name: tuple(sorted(rng.choice(net.dims[name].size, size, replace=False).tolist()))
            for name, size in scale_sizes(low).items()
        }
        return cls(keep, blocks)

    def refill(self, importance: Importance) -> Plan:
        """Return a plan of the same sizes and blocks with the most important indices."""
        keep = {
            name: tuple(sorted(rank_indices(importance, name)[: len(kept)].tolist()))
            for name, kept in self.keep.items()
        }
        return Plan(keep, self.blocks)

    def sizes(self) -> dict[str, int]:
        """Return Dim name -> how many indices stay."""
        return {name: len(kept) for name, kept in self.keep.items()}

    def atom_masks(self, net: Network) -> dict[Atom, NDArray[np.bool_]]:
        """Return the masks of the Dims by their atoms."""
        return {net.atoms[name]: kept for name, kept in self.masks(net).items()}

    def without_idle_dims(self, net: Network) -> Plan:
        """Return the same without Dims that lie in dropped Blocks alone: their size is nothing."""
        gone = set(self.dropped_blocks())
        idle = {name for name in self.keep if gone & enclosing_blocks(net, name)}
        return Plan({n: kept for n, kept in self.keep.items() if n not in idle}, self.blocks)

    def masks(self, net: Network) -> dict[str, NDArray[np.bool_]]:
        """Return Dim name -> [size] bool, true at the kept indices."""
        return {
            name: np.isin(np.arange(net.dims[name].size), kept) for name, kept in self.keep.items()
        }

    def dropped_blocks(self) -> tuple[str, ...]:
        """Return the names of the Blocks that are dropped."""
        return tuple(name for name, stays in self.blocks.items() if not stays)

    filled, dropped = refill, dropped_blocks  # the former names

    def check(self, net: Network) -> None:
        """Raise PlanError where this plan does not fit a network."""
        for name, kept in self.keep.items():
            if name not in net.dims:
                raise PlanError(f"the plan names the dim {name!r}, which {net.name} has not")
            size = net.dims[name].size
            valid = all(isinstance(i, int) and 0 <= i < size for i in kept)
            if not kept or not valid or len(set(kept)) != len(kept):
                raise PlanError(
                    f"dim {name!r}: expected one or more different indices from 0 to {size - 1}, "
                    f"got {list(kept)[:8]}"
                )
        for name in self.blocks:
            if name not in net.blocks:
                raise PlanError(f"the plan names the block {name!r}, which {net.name} has not")

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(
            {"keep": {k: list(v) for k, v in self.keep.items()}, "blocks": dict(self.blocks)},
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Return the plan that `to_json` wrote; raise PlanError where the text is none."""
        try:
            data: Any = parse_json(text)
            keep = {str(name): tuple(kept) for name, kept in data["keep"].items()}
            blocks = {str(name): stays for name, stays in data["blocks"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError(f"not a plan: {first_line(error)}") from error
        for name, kept in keep.items():
            if not all(type(index) is int for index in kept):
                raise PlanError(f"not a plan: dim {name!r} keeps what is no index")
        for name, stays in blocks.items():
            if type(stays) is not bool:
                raise PlanError(
                    f"not a plan: block {name!r}: expected true or false, got {stays!r}"
                )
        return cls(keep, blocks)

    def save(self, path: Path | str) -> None:
        """Write the plan to a JSON file."""
        write_text(Path(path), self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> Plan:
        """Return the plan in a JSON file; raise PlanError where it holds none."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, PlanError) as error:
            raise PlanError(f"{path}: {error}; run solve again to make it anew") from error


def rank_indices(importance: Importance, dim: str, first: Sequence[int] = ()) -> np.ndarray:
    """Return a Dim's indices, the most important first; ties in the order of the network.

    Those that are to come first do, the most important of them first.
    """
    ranked = np.argsort(-np.asarray(importance.total(dim)), kind="stable")
    early = np.isin(ranked, first)
    return np.concatenate([ranked[early], ranked[~early]])


def enclosing_blocks(net: Network, dim: str) -> set[str]:
    """Return the Blocks that all layers lie in which read or write a Dim."""
    around = [set(slot.blocks) for slot in net.dims[dim].slots if slot.role in ("in", "out")]
    return set.intersection(*around) if around else set()
