"""MONAI's networks for medical images, small: volumes of 32 voxels a side, or images."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from . import Example, Networks

_VOLUME = {"in_channels": 1, "out_channels": 2}
SETTINGS: Mapping[str, dict[str, Any]] = {
    "UNet": dict(spatial_dims=3, **_VOLUME, channels=(16, 32, 64, 128), strides=(2, 2, 2),
                 num_res_units=2),
    "BasicUNet": dict(spatial_dims=3, in_channels=1, out_channels=2,
                      features=(16, 16, 32, 64, 128, 16)),
    "DynUNet": dict(spatial_dims=3, **_VOLUME, kernel_size=(3, 3, 3), strides=(1, 2, 2),
                    upsample_kernel_size=(2, 2), filters=(16, 32, 64)),
    "SegResNet": dict(spatial_dims=3, **_VOLUME, init_filters=16),
    "AttentionUnet": dict(spatial_dims=3, **_VOLUME, channels=(16, 32, 64), strides=(2, 2)),
    "UNETR": dict(**_VOLUME, img_size=(32, 32, 32), feature_size=16, hidden_size=96, mlp_dim=192,
                  num_heads=4),
    "SwinUNETR": dict(**_VOLUME, feature_size=12),
    "DenseNet121": dict(spatial_dims=2, **_VOLUME),
}  # fmt: skip


def list_networks() -> Networks:
    """List them."""
    return {name: partial(build, name) for name in SETTINGS}


def build(name: str) -> Example:
    """Build a network."""
    import torch
    from monai.networks import nets

    settings = SETTINGS[name]
    side = 64 if name in ("SwinUNETR", "DenseNet121") else 32
    shape = (side, side, 32)[: settings.get("spatial_dims", 3)]
    return getattr(nets, name)(**settings), (torch.randn(2, 1, *shape),), {}
