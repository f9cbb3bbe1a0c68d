"""The smallest architecture of every timm family."""

import contextlib
from functools import partial
from pathlib import Path

from ... import record
from . import Example, Networks


def list_networks() -> Networks:
    """List one architecture of every family."""
    return {name: partial(build, name) for name in list_families()}


def list_families() -> dict[str, str]:
    """Return architecture -> family; found once, and kept beside this file."""
    path = Path(__file__).with_suffix(".json")
    if not path.is_file():
        record.write_json(path, find_smallest_of_families())
    return {name: family for family, name in record.read_json(path, {}).items()}


def find_smallest_of_families() -> dict[str, str]:
    """Return timm family -> its architecture with the fewest parameters (built without memory)."""
    import timm
    import torch

    result = {}
    for family in timm.list_modules():
        sizes = {}
        for name in timm.list_models(module=family):
            if name.startswith("test_"):  # made for timm's own tests, too small to show anything
                continue
            with contextlib.suppress(Exception), torch.device("meta"):
                sizes[name] = sum(p.numel() for p in timm.create_model(name).parameters())
        if sizes:
            result[family] = min(sizes, key=lambda name: sizes[name])
    return result


def build(name: str) -> Example:
    """Build an architecture; one image where the image or the network is large."""
    import torch

    model = record.build_module(f"timm:{name}")
    size = model.default_cfg["input_size"]
    weights = sum(p.numel() for p in model.parameters())
    count = 2 if size[-1] <= 448 and weights <= 2e8 else 1  # passes of those are what takes long
    return model, (torch.randn(count, *size),), {}
