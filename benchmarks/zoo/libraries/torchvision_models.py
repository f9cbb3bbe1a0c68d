"""Torchvision's networks for classes and for segments."""

import contextlib
from functools import partial
from typing import Any

from ... import record
from . import Example, Networks


def list_networks() -> Networks:
    """List all of them."""
    from torchvision import models

    names = models.list_models(module=models) + models.list_models(module=models.segmentation)
    return {name: partial(build, name) for name in names}


def build(name: str) -> Example:
    """Build a model; 224 pixels a side, 299 for Inception."""
    import torch

    with contextlib.suppress(TypeError):
        model = record.build_module(f"torchvision:{name}", weights_backbone=None)
        return model, (torch.randn(2, 3, 224, 224),), {}
    slow: dict[str, Any] = {}
    if name in ("inception_v3", "googlenet"):
        slow = {"init_weights": False}
    side = 299 if "inception" in name else 224
    return record.build_module(f"torchvision:{name}", **slow), (torch.randn(2, 3, side, side),), {}
