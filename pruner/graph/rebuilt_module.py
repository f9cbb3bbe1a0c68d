"""The class of a rebuilt network, and of the groups that its layers' names make."""

import copy
import warnings
from collections.abc import Iterable
from typing import Any

from torch import fx, nn
from torch.utils.hooks import RemovableHandle

from .torch_internals import order_registries


class LayerGroup(nn.Module):
    """What stands between a network and a layer in the layer's dotted name.

    The rebuilt network calls the layers themselves, so a hook on the group would never run; that is
    said where one is registered.
    """

    def register_forward_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        """Register as `nn.Module` does, and warn."""
        self._warn_of_hook()
        return super().register_forward_hook(*args, **kwargs)

    def register_forward_pre_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        """Register as `nn.Module` does, and warn."""
        self._warn_of_hook()
        return super().register_forward_pre_hook(*args, **kwargs)

    def register_full_backward_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        """Register as `nn.Module` does, and warn."""
        self._warn_of_hook()
        return super().register_full_backward_hook(*args, **kwargs)

    def register_full_backward_pre_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        """Register as `nn.Module` does, and warn."""
        self._warn_of_hook()
        return super().register_full_backward_pre_hook(*args, **kwargs)

    def _warn_of_hook(self) -> None:
        layers = [name for name, module in self.named_modules() if type(module) is not LayerGroup]
        last = f", such as {layers[-1]!r}, the last of this group" if layers else ""
        warnings.warn(
            "this hook will not run: a cut network calls its layers, not groups of them; "
            f"register it at a layer{last}",
            stacklevel=3,
        )


class _BufferTracer(fx.Tracer):
    """Traces buffers by their names: what is computed from buffers alone stays computed."""

    proxy_buffer_attributes = True


class RebuiltModule(fx.GraphModule):
    """A ``GraphModule`` whose copies are whole: its class's name, every name and every mode."""

    def __init__(self, root: nn.Module, graph: fx.Graph, class_name: str) -> None:
        graph._tracer_cls = _BufferTracer  # by which a pickled one is read again
        super().__init__(root, graph, class_name)
        for module in self.modules():
            if type(module) is nn.Module:  # which GraphModule makes on the way to a layer
                module.__class__ = LayerGroup

    def __deepcopy__(self, memo: dict[int, Any]) -> "RebuiltModule":
        # GraphModule's own copies only what the graph calls.
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        type(twin).__name__ = type(self).__name__
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        twin.graph = twin.__dict__["_graph"]  # compiles its forward
        return twin


def order_tensors(module: nn.Module, names: Iterable[str]) -> None:
    """Put parameters, buffers and children into the order of the names of their tensors.

    Optimizers tell parameters by their places: those of the file, of the network that was cut and
    of the model must have one order.
    """
    place: dict[str, int] = {}
    for position, name in enumerate(names):
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            place.setdefault(".".join(parts[:depth]), position)
    for path, one in module.named_modules():
        prefix = f"{path}." if path else ""
        order_registries(one, lambda key, prefix=prefix: place.get(prefix + key, len(place)))  # type: ignore[misc]
