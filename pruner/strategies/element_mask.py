"""ElementMask: trains some elements of a network's parameters and holds the others still."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..graph import named_tensors


class ElementMask:
    """Undoes what an optimizer step does to elements that are to stay as they are.

    Gradients of these are zero, so that they count in no norm; momentum and decay move no element
    either, since its value is put back.

    Attributes:
        masks: Parameter -> bool in its shape, true where it is trained; others are trained whole.
    """

    def __init__(self, module: nn.Module, trained: Mapping[str, Tensor]) -> None:
        """Take masks by the parameters' names, one parameter's under several names combined."""
        self.masks: dict[nn.Parameter, Tensor] = {}
        for name, tensor in named_tensors(module, tied=True).items():
            if isinstance(tensor, nn.Parameter) and name in trained:
                known = self.masks.get(tensor)
                self.masks[tensor] = trained[name] if known is None else known & trained[name]
        self.masks = {
            parameter: mask.to(parameter.device)
            for parameter, mask in self.masks.items()
            if not bool(mask.all())
        }
        self._before: dict[nn.Parameter, Tensor] = {}

    @torch.no_grad()
    def keep(self) -> None:
        """Take note of all values, before a step of the optimizer, and clear their gradients."""
        for parameter, mask in self.masks.items():
            self._before[parameter] = parameter.detach().clone()
            if parameter.grad is not None:
                parameter.grad.mul_(mask)

    @torch.no_grad()
    def put_back(self) -> None:
        """Put back the values of what is not trained."""
        for parameter, before in self._before.items():
            parameter.copy_(torch.where(self.masks[parameter], parameter, before))
        self._before = {}
