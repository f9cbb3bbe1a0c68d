"""The gates of a network as a module: parameters by the names of Dims and Blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ..structure import Plan


class GateTable(nn.Module):
    """Gates by the name of the Dim or Block that each is of.

    ``table[name]`` is the parameter; ``state_dict`` has it under the name with ``/`` for the dots.
    """

    def __init__(self, gates: Mapping[str, nn.Parameter]) -> None:
        """Hold these parameters."""
        super().__init__()
        self.names = tuple(gates)
        for name, gate in gates.items():
            self.register_parameter(escape_name(name), gate)

    def __getitem__(self, name: str) -> nn.Parameter:
        if name not in self.names:
            raise KeyError(name)
        return self.get_parameter(escape_name(name))

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def items(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the names and parameters."""
        return ((name, self[name]) for name in self.names)


_TAKEN = frozenset([*dir(GateTable), *vars(nn.Module()), "names"])


def escape_name(name: str) -> str:
    """Return the name of a gate's parameter: without dots, and none that a table has itself."""
    escaped = name.replace(".", "/")
    while escaped in _TAKEN:
        escaped += "/"
    return escaped


class Gates(nn.Module):
    """All gates of a gated network; its parameters are the gates and nothing else.

    Attributes:
        dims: Dim name -> [size], a number an index.
        blocks: Block name -> a scalar tensor.
    """

    def __init__(
        self, dims: Mapping[str, nn.Parameter], blocks: Mapping[str, nn.Parameter]
    ) -> None:
        """Hold these parameters."""
        super().__init__()
        self.dims, self.blocks = GateTable(dims), GateTable(blocks)

    @torch.no_grad()
    def set_plan(self, plan: Plan, closed: float = 0.0) -> None:
        """Set the gates of what a plan keeps to one, and those of what it removes to a number.

        What the plan does not name it keeps. What it removes of Dims and Blocks that have no gates
        stays open.

        Args:
            plan: What to keep.
            closed: The number of what is removed.
        """
        for name, gate in self.dims.items():
            gate.fill_(closed if name in plan.keep else 1.0)
            if name in plan.keep:
                gate[torch.as_tensor(plan.keep[name], device=gate.device)] = 1.0
        for name, gate in self.blocks.items():
            gate.fill_(1.0 if plan.blocks.get(name, True) else closed)

    @torch.no_grad()
    def set_values(
        self,
        dims: Mapping[str, Tensor | float] | None = None,
        blocks: Mapping[str, Tensor | float] | None = None,
    ) -> None:
        """Copy numbers into gates: [size] or one for all, by the names of Dims and Blocks."""
        for table, values in ((self.dims, dims or {}), (self.blocks, blocks or {})):
            for name, value in values.items():
                table[name].copy_(torch.as_tensor(value).expand(table[name].shape))
