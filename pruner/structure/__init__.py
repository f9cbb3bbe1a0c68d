"""What a traced network is made of: Dims, Blocks, Cells, and Plans of what to keep of them."""

from .allocations import Allocation, list_weights
from .choice import decode_choice, encode_choice, keep_variable, size_variable, sum_variable
from .cost import Cost, count_macs, count_parameters, list_macs
from .importance import Importance
from .memory import count_memory, find_memory_points, get_batch_size
from .network import Dim, Frozen, LocatedCell, Network, Slot
from .plan import Plan, enclosing_blocks, rank_indices
from .trace import build_network, trace, trace_parts

__all__ = [
    "Allocation", "Cost", "Dim", "Frozen", "Importance", "LocatedCell", "Network", "Plan", "Slot",
    "build_network", "count_macs", "count_memory", "count_parameters", "decode_choice",
    "enclosing_blocks", "encode_choice", "find_memory_points", "get_batch_size", "keep_variable",
    "list_macs", "list_weights", "rank_indices", "size_variable", "sum_variable", "trace",
    "trace_parts",
]  # fmt: skip
