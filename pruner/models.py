"""MODEL strings: which network is meant, with which weights, and what its inputs look like.

``timm:NAME``, ``torchvision:NAME``, ``package.module:factory`` (also from the current folder) and
``demo:resnet20`` (embedded, with its weights). Nothing is ever downloaded: without a weights file
the parameters are random.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import PrunerError

FORMS = "timm:NAME, torchvision:NAME, package.module:factory or demo:resnet20"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Under these keys training scripts put the state_dict into a checkpoint.
CHECKPOINT_KEYS = ("state_dict", "model", "model_state_dict", "net", "ema_state_dict")


@dataclass(frozen=True)
class InputPreset:
    """How an image becomes an input: (channels, height, width), and (image - mean) / std.

    crop is the share of the resized image that the evaluation's central crop keeps.
    """

    input_size: tuple[int, ...] | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop: float = 0.875
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class DenseModel:
    """The network to prune: its MODEL string, the module in eval mode, and what identifies it.

    weights is the file's path, ``embedded``, or None for random ones; digest is the SHA-256 of
    the state_dict.
    """

    name: str
    module: nn.Module
    weights: str | None
    digest: str
    preset: InputPreset


def load_model(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
) -> DenseModel:
    """Build the network that a MODEL string names.

    Parameters
    ----------
    name
        One of the forms in this module's first lines.
    weights
        A ``.safetensors`` file or a ``torch.save`` file, of which tensors only are read. The names
        and shapes must be the network's own. Without it the weights are random, by the seed.
    arguments
        Keyword arguments of the factory, e.g. ``{"num_classes": 10}``.

    Raises
    ------
    PrunerError
        Unknown source, name or file, weights that do not fit, a factory that fails.
    """
    source, colon, rest = name.partition(":")
    if not colon or not source or not rest:
        raise PrunerError(f"cannot read MODEL {name!r}: expected {FORMS}")
    keywords = dict(arguments or {})
    # The same seed gives the same random weights, whatever ran before, and disturbs nobody's.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if source == "timm":
            module, preset = _from_timm(rest, keywords)
        elif source == "torchvision":
            module, preset = _from_torchvision(rest, keywords)
        elif source == "demo":
            module, preset = _from_demo(rest, keywords)
        else:
            module, preset = _from_factory(source, rest, keywords)
    if source == "demo" and weights is None:
        from .demo import WEIGHTS

        _load_weights(module, WEIGHTS, name)
        weights = "embedded"
    elif weights is not None:
        weights = os.path.abspath(weights)
        _load_weights(module, Path(weights), name)
    module.eval()
    return DenseModel(name, module, weights, digest(module), preset)


def digest(module: nn.Module) -> str:
    """SHA-256 of the state_dict: names, types, shapes and values."""
    total = hashlib.sha256()
    for key, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            continue
        total.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        total.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return total.hexdigest()


def _from_timm(name: str, keywords: dict[str, Any]) -> tuple[nn.Module, InputPreset]:
    timm = _import_extra("timm")
    if not timm.is_model(name.split(".")[0]):
        raise _unknown("timm", name, timm.list_models())
    module = _call(f"timm:{name}", timm.create_model, name, pretrained=False, **keywords)
    return module, _preset(timm.data.resolve_model_data_config(module))


def _from_torchvision(name: str, keywords: dict[str, Any]) -> tuple[nn.Module, InputPreset]:
    models = _import_extra("torchvision.models")
    if name not in models.list_models():
        raise _unknown("torchvision", name, models.list_models())
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        keywords.setdefault("weights_backbone", None)  # else torchvision fetches a backbone
    module = _call(f"torchvision:{name}", models.get_model, name, weights=None, **keywords)
    # The first published weights tell the input size and the normalization; none is fetched.
    published = next(iter(models.get_model_weights(name))).transforms()
    crop = getattr(published, "crop_size", None)
    if not crop:
        return module, InputPreset((3, 224, 224))
    resize = getattr(published, "resize_size", None) or crop
    size = (3, crop[0], crop[0])
    filter_name = "bicubic" if "bicubic" in str(published.interpolation).lower() else "bilinear"
    return module, InputPreset(
        size, tuple(published.mean), tuple(published.std), crop[0] / resize[0], filter_name
    )


def _from_demo(name: str, keywords: dict[str, Any]) -> tuple[nn.Module, InputPreset]:
    from .demo.resnet import PREPROCESSING, resnet20

    if name != "resnet20":
        raise _unknown("demo", name, ["resnet20"])
    return _call("demo:resnet20", resnet20, **keywords), _preset(PREPROCESSING)


def _from_factory(
    module_name: str, attribute: str, keywords: dict[str, Any]
) -> tuple[nn.Module, InputPreset]:
    name = f"{module_name}:{attribute}"
    with _current_folder_importable():
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and (module_name + ".").startswith(error.name + "."):
                raise PrunerError(
                    f"unknown MODEL {name!r}: there is no module {error.name!r} to import "
                    f"(MODEL is {FORMS})"
                ) from error
            raise PrunerError(f"importing {module_name!r} failed: {_line(error)}") from error
        except Exception as error:
            raise PrunerError(f"importing {module_name!r} failed: {_line(error)}") from error
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise _unknown(module_name, attribute, [k for k in vars(found) if k[0] != "_"])
            found = getattr(found, part)
        module = found if isinstance(found, nn.Module) else _call(name, found, **keywords)
    config = getattr(module, "default_cfg", None)
    return module, _preset(config if isinstance(config, Mapping) else {})


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """``python -m`` finds modules of the current folder, a console script does not: make it so."""
    folder = os.getcwd()
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)


def _call(name: str, factory: Any, *values: Any, **keywords: Any) -> nn.Module:
    if not callable(factory):
        raise PrunerError(f"MODEL {name!r} is a {type(factory).__name__}, not a factory")
    try:
        module = factory(*values, **keywords)
    except Exception as error:
        raise PrunerError(f"building MODEL {name!r} failed: {_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise PrunerError(f"MODEL {name!r} returned a {type(module).__name__}, not a torch module")
    return module


def _preset(config: Mapping[str, Any]) -> InputPreset:
    size = config.get("input_size")
    return InputPreset(
        tuple(size) if size else None,
        tuple(config.get("mean", IMAGENET_MEAN)),
        tuple(config.get("std", IMAGENET_STD)),
        float(config.get("crop_pct") or 0.875),
        "bicubic" if config.get("interpolation") == "bicubic" else "bilinear",
    )


def _load_weights(module: nn.Module, path: Path, name: str) -> None:
    state = read_weights(path)
    own = module.state_dict()
    if state and all(key.startswith("module.") for key in state):  # saved under DataParallel
        state = {key[len("module.") :]: value for key, value in state.items()}
    # Counters of batches that many files leave out, and that eval mode never reads.
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    wrong = [
        f"{k} is {list(v.shape)} in the file and {list(own[k].shape)} in the network"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    complaints = [
        f"{label} {_some(keys)}"
        for label, keys in (("missing", missing), ("unexpected", unexpected), ("shape:", wrong))
        if keys
    ]
    if complaints:
        raise PrunerError(f"weights {str(path)!r} do not fit {name}: " + "; ".join(complaints))
    module.load_state_dict(state, strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or ``torch.save`` file by name; pickled code is never run."""
    if not path.is_file():
        raise PrunerError(f"there is no weights file {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise PrunerError(
            f"cannot read weights {str(path)!r} (a .safetensors file, or a torch.save file with "
            f"nothing but tensors): {_line(error)}"
        ) from error
    for key in CHECKPOINT_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise PrunerError(f"weights {str(path)!r} hold no state_dict")
    odd = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if odd:
        raise PrunerError(f"weights {str(path)!r} hold no state_dict: not tensors: {_some(odd)}")
    return dict(content)


def _import_extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise PrunerError(
            f'{package} is not installed: pip install "msprune[zoo]" ({_line(error)})'
        ) from error


def _unknown(source: str, name: str, known: Sequence[str]) -> PrunerError:
    close = difflib.get_close_matches(name, known, 3, 0.5)
    hint = f": did you mean {' or '.join(f'{source}:{c}' for c in close)}?" if close else ""
    return PrunerError(f"unknown MODEL {source + ':' + name!r}{hint}")


def _some(keys: Sequence[str]) -> str:
    head = ", ".join(keys[:3])
    return head if len(keys) <= 3 else f"{head} and {len(keys) - 3} more"


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
