"""Names of all networks, ``library:network``, and how one of them is made."""

import importlib
from collections.abc import Mapping
from typing import Any

from .libraries import Example, timm_families

LIBRARIES: Mapping[str, str] = {
    "timm": "timm_families",
    "torchvision": "torchvision_models",
    "hf": "transformers_default",
    "hf_small": "transformers_small",
    "torchvision-parts": "torchvision_parts",
    "ultralytics": "ultralytics_yolo",
    "smp": "smp_decoders",
    "monai": "monai_medical",
}
"""The part of a name before the colon -> the module of `libraries`."""


def list_architectures() -> dict[str, str]:
    """List all names with their families: timm's own, else the network itself."""
    families = timm_families.list_families()
    return {
        f"{library}:{name}": families.get(name, name)
        for library in LIBRARIES
        for name in _find_library(library).list_networks()
    }


def _find_library(name: str) -> Any:
    return importlib.import_module(f".libraries.{LIBRARIES[name]}", __package__)


def build(name: str) -> Example:
    """Build a model in eval mode with random weights, scales and statistics; its example call.

    A network as it is initialized multiplies many of its branches by zero or one, and would hide
    what is cut wrongly there.
    """
    import torch

    torch.manual_seed(0)
    library, _, network = name.partition(":")
    model, args, kwargs = _find_library(library).list_networks()[network]()
    randomize(model)
    return model.eval(), args, kwargs


def randomize(model: Any) -> None:
    """Move running statistics, and parameters whose numbers are all the same."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def draw_noise(like: Any) -> Any:
        return torch.randn(like.shape, generator=generator).to(like)

    with torch.no_grad():
        for key, buffer in model.named_buffers():
            if key.endswith("running_mean"):
                buffer.add_(draw_noise(buffer), alpha=0.1)
            if key.endswith("running_var"):
                buffer.mul_(1 + 0.5 * draw_noise(buffer).tanh())
        for parameter in model.parameters():
            if not parameter.is_floating_point() or not parameter.numel():
                continue
            if bool((parameter == parameter.flatten()[0]).all()):
                parameter.add_(draw_noise(parameter), alpha=0.1)
