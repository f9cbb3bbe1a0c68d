"""What users wrap models in: taken off where it only calls the model, refused where it hides it."""

import copy

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..errors import TraceError
from .torch_internals import inside_compiled

_CALLERS = (
    nn.DataParallel,
    nn.parallel.DistributedDataParallel,
    torch.optim.swa_utils.AveragedModel,
)


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the module inside of ``torch.compile``, data parallelism and weight averaging.

    Raises:
        TraceError: It is a ScriptModule or holds one, or is no module.
    """
    while True:
        compiled = inside_compiled(model)
        if compiled is not None:
            model = compiled
        elif isinstance(model, _CALLERS):
            model = model.module
        else:
            break
    if not isinstance(model, nn.Module):
        raise TraceError(
            f"expected a torch.nn.Module, got a {type(model).__name__}: give the model itself"
        )
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            place = f"its submodule {path!r}" if path else "it"
            raise TraceError(
                f"{place} is a ScriptModule ({type(module).__name__}), whose Python code is gone: "
                "pass the original nn.Module, before torch.jit.script or torch.jit.trace"
            )
    return model


def copy_model(model: nn.Module) -> nn.Module:
    """Copy a model that may keep results of an earlier call, which by themselves refuse a copy."""
    kept = (value for module in model.modules() for value in pytree.tree_leaves(vars(module)))
    memo = {
        id(value): value.detach().clone()
        for value in kept
        if isinstance(value, Tensor) and not value.is_leaf
    }
    return copy.deepcopy(model, memo)
