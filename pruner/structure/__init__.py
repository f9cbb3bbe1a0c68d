"""What a traced network is made of: Dims, Blocks, Cells, and Plans of what to keep of them."""

from .cost import macs, parameters
from .importance import Importance
from .network import Dim, Frozen, Network, Placed, Slot
from .plan import Plan, ranking, structure_of
from .trace import network, trace

__all__ = [
    "Dim", "Frozen", "Importance", "Network", "Placed", "Plan", "Slot", "macs", "network",
    "parameters", "ranking", "structure_of", "trace",
]  # fmt: skip
