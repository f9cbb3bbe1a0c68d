"""Gates: a number on every index of Dims and on Blocks, through which a network reads them.

`gate_network` rewrites a traced network so that at one it is the network, at zeros and ones the cut
network, and in between differentiable; the gates are parameters of the module that it returns.
`slot_gates` are the same numbers on single parameters, of which scores take derivatives.
"""

from .gate_network import find_gates, gate_network
from .slot_gates import (
    differentiate_gates,
    fold_positions,
    gate_parameter,
    spread_gates,
    sum_to_axis,
)
from .tables import Gates, GateTable

__all__ = [
    "GateTable", "Gates", "differentiate_gates", "find_gates", "fold_positions", "gate_network",
    "gate_parameter", "spread_gates", "sum_to_axis",
]  # fmt: skip
