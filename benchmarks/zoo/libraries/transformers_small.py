"""Small configurations of Hugging Face families, with random weights: few layers, little width.

Beside the families that the zoo takes in their default configuration. The structure is the real
one; a width is a multiple of its heads and large enough to be cut in steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import Example, Networks


@dataclass(frozen=True)
class Config:
    """A configuration of `transformers` by name, its settings plain values and other such."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """Return the configuration, those within it built too."""
        import transformers

        return getattr(transformers, self.name)(**_build_nested(self.settings))


def _build_nested(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.build() if isinstance(value, Config) else value
        for key, value in settings.items()
    }


Inputs = Callable[[], dict[str, Any]]


def draw_pixels(height: int = 32, width: int = 0, *front: int, name: str = "pixel_values") -> Any:
    """Return a batch of two images (or videos, front axes of them) by their keyword."""
    import torch

    return {name: torch.randn(2, *(front or (3,)), height, width or height)}


def draw_tokens(length: int = 7, mask: bool = True, name: str = "input_ids") -> dict[str, Any]:
    """Return two rows of token numbers, and which of them are there."""
    import torch

    ids = torch.arange(2 * length).reshape(2, length) + 3
    return {name: ids, **({"attention_mask": torch.ones_like(ids)} if mask else {})}


def draw_waves(length: int = 1600, name: str = "input_values") -> dict[str, Any]:
    """Return two sounds."""
    import torch

    return {name: torch.randn(2, length)}


def draw_both(*makers: Inputs) -> dict[str, Any]:
    """Return the inputs of several modalities."""
    return {key: value for maker in makers for key, value in maker().items()}


@dataclass(frozen=True)
class Family:
    """One architecture: its class, the settings of its configuration, how inputs are made."""

    model: str
    settings: dict[str, Any]
    inputs: Inputs
    part: str = ""

    def build(self) -> Example:
        """Return the model, in a small configuration, and its example arguments."""
        import transformers

        kind = getattr(transformers, self.model)
        model = kind(kind.config_class(**_build_nested(self.settings)))
        inputs = self.inputs()
        return (model.get_submodule(self.part) if self.part else model), (), inputs


def draw_patches(count: int, width: int, grid: tuple[int, int]) -> dict[str, Any]:
    """Return images as rows of patches, which of them are there, and their grids."""
    import torch

    return {"pixel_values": torch.randn(2, count, width),
            "pixel_attention_mask": torch.ones(2, count, dtype=torch.long),
            "spatial_shapes": torch.tensor([grid] * 2)}  # fmt: skip


def draw_noise(length: int) -> dict[str, Any]:
    import torch

    return {"noise": torch.rand(2, length)}


def draw_states(length: int, width: int) -> dict[str, Any]:
    import torch

    return {"encoder_hidden_states": torch.randn(2, length, width)}


def draw_features(length: int, width: int) -> dict[str, Any]:
    import torch

    return {"inputs": torch.randn(2, length, width)}


def draw_mel(bins: int, length: int) -> dict[str, Any]:
    import torch

    return {"input_features": torch.randn(2, bins, length)}


def draw_image_tokens(count: int, image: int, kinds: bool = False) -> dict[str, Any]:
    """Return rows of text behind so many places that an image's features take.

    With kinds also which of them are no part of the prompt: none.
    """
    import torch

    text = draw_tokens(5, False)["input_ids"]
    ids = torch.cat([torch.full((2, count), image), text], 1)
    suffix = torch.zeros_like(ids)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | (
        {"token_type_ids": suffix} if kinds else {}
    )


def draw_patch_mask(side: int) -> dict[str, Any]:
    import torch

    return {"patch_attention_mask": torch.ones(2, side, side, dtype=torch.bool)}


def list_networks() -> Networks:
    """List them; each is made in its own process."""
    from .transformers_configs import FAMILIES

    return {name: family.build for name, family in FAMILIES.items()}
