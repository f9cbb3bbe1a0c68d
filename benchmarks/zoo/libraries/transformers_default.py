"""Hugging Face vision models in their default configuration, but for the size of large images."""

from functools import partial
from typing import Any

from . import Example, Networks

NAMES = (
    "ViT", "DeiT", "Swin", "Swinv2", "ConvNext", "Segformer", "Dinov2", "CLIPVision", "Beit",
    "MobileViT", "PvtV2", "Hiera", "ResNet", "SiglipVision", "DPT", "Yolos", "CLIP", "Blip",
    "RTDetr",
)  # fmt: skip

SMALLER: dict[str, dict[str, Any]] = {
    "Yolos": {"image_size": [256, 432]},
    "Blip": {"vision_config": {"image_size": 224}},
}
"""Settings of configurations whose own images have so many patches that attention takes minutes."""


def list_networks() -> Networks:
    """List them."""
    return {name: partial(build, name) for name in NAMES}


def build(name: str) -> Example:
    """Build a model by the stem of its class's name."""
    import transformers

    kind = getattr(transformers, f"{name}Model")
    config = kind.config_class(**SMALLER.get(name, {}))
    return kind(config), (), _draw_inputs(name, config)


def _draw_inputs(name: str, config: Any) -> dict[str, Any]:
    import torch

    vision = getattr(config, "vision_config", config)
    side = getattr(vision, "image_size", 224) or 224
    height, width = side if isinstance(side, list | tuple) else (side, side)
    if name == "RTDetr":
        height = width = 256
    pixels = torch.randn(2, 3, height, width)
    if name in ("CLIP", "Blip"):
        ids = torch.arange(2 * 7).reshape(2, 7) + 1
        return {"input_ids": ids, "pixel_values": pixels, "attention_mask": torch.ones_like(ids)}
    return {"pixel_values": pixels}
