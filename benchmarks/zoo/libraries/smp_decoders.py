"""segmentation-models-pytorch: every decoder over a small encoder."""

from functools import partial

from . import Example, Networks

ENCODERS = {
    "Unet": "resnet18", "UnetPlusPlus": "resnet18", "MAnet": "resnet18", "Linknet": "resnet18",
    "FPN": "mobilenet_v2", "PSPNet": "resnet18", "DeepLabV3": "resnet18",
    "DeepLabV3Plus": "mobilenet_v2", "PAN": "resnet18", "UPerNet": "resnet18",
    "Segformer": "mit_b0", "DPT": "tu-vit_tiny_patch16_224",
}  # fmt: skip
"""Decoder -> encoder."""


def list_networks() -> Networks:
    """List them."""
    return {name: partial(build, name) for name in ENCODERS}


def build(name: str) -> Example:
    """Build a network for three classes, without pretrained weights."""
    import segmentation_models_pytorch
    import torch

    kind = getattr(segmentation_models_pytorch, name)
    model = kind(encoder_name=ENCODERS[name], encoder_weights=None, classes=3)
    side = 224 if name == "DPT" else 128
    return model, (torch.randn(2, 3, side, side),), {}
