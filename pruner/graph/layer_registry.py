"""The layers that a rebuilt network may hold, and the settings that make each of them again."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .input_sizes import InputSize
from .input_values import InputValues
from .stochastic import DotProductAttention, DropPath

LAYER_SETTINGS: dict[type[nn.Module], tuple[str, ...]] = {
    **dict.fromkeys(
        (nn.Conv1d, nn.Conv2d, nn.Conv3d),
        ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
         "bias"),
    ),
    **dict.fromkeys(
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        ("in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding",
         "groups", "bias", "dilation"),
    ),
    nn.Linear: ("in_features", "out_features", "bias"),
    **dict.fromkeys(
        (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d,
         nn.InstanceNorm3d),
        ("num_features", "eps", "momentum", "affine", "track_running_stats"),
    ),
    nn.LayerNorm: ("normalized_shape", "eps", "elementwise_affine", "bias"),
    nn.RMSNorm: ("normalized_shape", "eps", "elementwise_affine"),
    nn.GroupNorm: ("num_groups", "num_channels", "eps", "affine"),
    nn.GRU: ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout",
             "bidirectional"),
    nn.LSTM: ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout",
              "bidirectional", "proj_size"),
    nn.PReLU: ("num_parameters",),
    nn.Embedding: ("num_embeddings", "embedding_dim", "padding_idx"),
    **dict.fromkeys(
        (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
         nn.FeatureAlphaDropout),
        ("p",),
    ),
    DropPath: ("p", "mode", "scale_by_keep"),
    InputSize: ("sizes",),
    InputValues: ("names", "values"),
    DotProductAttention: ("p", "is_causal", "scale", "gqa"),
}  # fmt: skip
"""Every layer that a rebuilt network may hold, with the arguments that make it again."""

LAYERS_BY_NAME = {layer.__name__: layer for layer in LAYER_SETTINGS}


def layer_settings(layer: nn.Module) -> dict[str, Any]:
    """Return the arguments that make this layer again (``bias`` as yes or no)."""
    values = {name: getattr(layer, name) for name in LAYER_SETTINGS[type(layer)]}
    if "bias" in values and not isinstance(layer, nn.RNNBase):
        values["bias"] = values["bias"] is not None
    return values


def build_layer(kind: type[nn.Module], made: Mapping[str, Any]) -> nn.Module:
    """Make an empty layer (on the meta device: its tensors are put in afterwards)."""
    with torch.device("meta"):
        return kind(**made)
