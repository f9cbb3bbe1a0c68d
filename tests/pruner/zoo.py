"""Thirty architectures of different kinds, small: few layers, narrow, small images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

Inputs = dict[str, torch.Tensor]


def _timm(name: str, side: int = 64, **settings: Any) -> tuple[nn.Module, Inputs]:
    timm = pytest.importorskip("timm", reason="needs the extra 'zoo'")
    return timm.create_model(name, num_classes=10, **settings), _image("x", side)


def _torchvision(name: str, argument: str = "x", **settings: Any) -> tuple[nn.Module, Inputs]:
    models = pytest.importorskip("torchvision", reason="needs the extra 'zoo'").models
    return models.get_model(name, weights=None, num_classes=10, **settings), _image(argument, 64)


def _hf(name: str, side: int = 64, **settings: Any) -> tuple[nn.Module, Inputs]:
    transformers = pytest.importorskip("transformers", reason="needs the extra 'zoo'")
    kind = getattr(transformers, name)
    return kind(kind.config_class(**settings)), _image("pixel_values", side)


def _clip() -> tuple[nn.Module, Inputs]:
    tower = dict(hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    text = {**tower, "vocab_size": 50, "max_position_embeddings": 8}
    vision = {**tower, "image_size": 32, "patch_size": 8}
    model, inputs = _hf("CLIPModel", 32, text_config=text, vision_config=vision, projection_dim=16)
    ids = torch.arange(2 * 7).reshape(2, 7) + 1
    return model, {"input_ids": ids, **inputs, "attention_mask": torch.ones_like(ids)}


def _image(name: str, side: int) -> Inputs:
    return {name: torch.zeros(2, 3, side, side)}


_VIT = dict(img_size=32, patch_size=8, depth=2, embed_dim=48, num_heads=3)
_STAGES = dict(embed_dim=24, depths=(1, 1, 2, 1), num_heads=(2, 2, 4, 4))
_HF = dict(
    hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=3,
    image_size=32, patch_size=8,
)  # fmt: skip

ZOO: dict[str, Callable[[], tuple[nn.Module, Inputs]]] = {
    # transformers
    "vit": lambda: _timm("vit_tiny_patch16_224", 32, **_VIT),
    "deit, distilled": lambda: _timm("deit_tiny_distilled_patch16_224", 32, **_VIT),
    "beit": lambda: _timm("beit_base_patch16_224", 32, **_VIT),
    "eva-02": lambda: _timm("eva02_tiny_patch14_224", 32, **_VIT),
    "cait": lambda: _timm("cait_xxs24_224", 32, **_VIT),
    "xcit": lambda: _timm("xcit_nano_12_p16_224", 32, **{**_VIT, "patch_size": 16}),
    "swin": lambda: _timm("swin_tiny_patch4_window7_224", img_size=64, window_size=4, **_STAGES),
    "swin v2": lambda: _timm("swinv2_tiny_window8_256", img_size=64, window_size=4, **_STAGES),
    "pvt v2": lambda: _timm("pvt_v2_b0", depths=(1, 1, 1, 1)),
    "mixer": lambda: _timm("mixer_s32_224", img_size=64),
    "poolformer": lambda: _timm("poolformer_s12"),
    # hybrids
    "maxvit": lambda: _timm("maxvit_pico_rw_256", img_size=64),
    "levit": lambda: _timm("levit_128s", img_size=64),
    "efficientformer": lambda: _timm("efficientformer_l1", 224),
    "tinyvit": lambda: _timm("tiny_vit_5m_224", depths=(1, 1, 1, 1)),
    "fastvit": lambda: _timm("fastvit_t8", layers=(1, 1, 2, 1)),
    "mobilevit": lambda: _timm("mobilevit_xxs"),
    "edgenext": lambda: _timm("edgenext_xx_small", depths=(1, 1, 2, 1)),
    # convolutions
    "convnext": lambda: _timm("convnext_atto", depths=(1, 1, 2, 1), dims=(16, 24, 32, 48)),
    "nfnet": lambda: _timm("nf_regnet_b0"),
    "regnet": lambda: _torchvision("regnet_y_400mf"),
    "resnext": lambda: _timm("resnext26ts"),
    "res2net": lambda: _timm("res2net50_26w_4s", layers=(1, 1, 1, 1)),
    "hrnet": lambda: _timm("hrnet_w18_small"),
    "dpn": lambda: _timm("dpn48b", k_sec=(1, 1, 2, 1)),
    "densenet": lambda: _timm("densenet121", block_config=(2, 2, 2, 2)),
    "csp darknet": lambda: _timm("cs3darknet_focus_s"),
    "shufflenet": lambda: _torchvision("shufflenet_v2_x0_5"),
    "mobilenet v4": lambda: _timm("mobilenetv4_conv_small"),
    "repvgg": lambda: _timm("repvgg_a0"),
    "inception": lambda: _torchvision("googlenet", init_weights=False, aux_logits=False),
    "segmentation": lambda: _torchvision(
        "lraspp_mobilenet_v3_large", "input", weights_backbone=None
    ),
    # Hugging Face, by keyword arguments
    "hf swin": lambda: _hf("SwinModel", image_size=64, window_size=2, **_STAGES),
    "hf dinov2": lambda: _hf("Dinov2Model", 32, **_HF),
    "hf segformer": lambda: _hf(
        "SegformerModel", depths=(1, 1, 1, 1), hidden_sizes=(16, 24, 32, 48)
    ),
    "hf clip": _clip,
}


def build(name: str, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
    """A model in evaluation mode with random weights, and example inputs."""
    torch.manual_seed(0)
    model, inputs = ZOO[name]()
    for parameter in model.parameters():  # what is initialized to zero hides what it scales
        if parameter.dim() <= 1 or not parameter.any():
            nn.init.normal_(parameter, 0.5, 0.2)
    inputs = {k: x.to(dtype) if x.is_floating_point() else x for k, x in inputs.items()}
    return model.to(dtype).eval(), inputs
