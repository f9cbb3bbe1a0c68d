"""Which elements of every tensor a Plan keeps."""

import torch
from torch import Tensor

from ..axes import kept_mask
from ..structure import Network, Plan
from .apply import cut_network


def find_kept_elements(net: Network, plan: Plan) -> dict[str, Tensor]:
    """Return the elements that `apply` leaves of a plan: name -> bool, in the tensor's shape.

    Of tensors that lie in dropped Blocks alone, none. Raises PlanError as `apply` does.
    """
    left = cut_network(net, plan).tensors
    keep = plan.atom_masks(net)
    found: dict[str, Tensor] = {}
    for node in net.program.graph.nodes:
        if node.op != "get_attr":
            continue
        name = str(node.target)
        shape = net.program.tensors[name].shape
        mask = torch.full(shape, name in left)
        for axis, positions in enumerate(net.axis_map.axes[node]):
            place = [1] * len(shape)
            place[axis] = -1
            mask &= torch.from_numpy(kept_mask(positions, keep)).reshape(place)
        found[name] = found[name] | mask if name in found else mask
    return found
