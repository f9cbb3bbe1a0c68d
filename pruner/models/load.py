"""MODEL strings: which network is meant, with which weights, and what its inputs look like.

``timm:NAME``, ``torchvision:NAME``, ``hf:NAME`` (a class of the transformers library, or a local
folder: ``hf:./path``), ``package.module:factory`` (also from the current folder) and
``demo:resnet20`` (embedded, with its weights). Nothing is ever downloaded: without a weights file
the parameters are random.
"""

from __future__ import annotations

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
from torch import nn

from ..data import IMAGENET_MEAN, IMAGENET_STD
from ..errors import PrunerError, first_line
from ..utils import suggest_names
from .example_inputs import MakeExample, list_of_images, one_tensor, two_tensors
from .input_config import InputPreset
from .weights import digest, load_weights

FORMS = "timm:NAME, torchvision:NAME, hf:NAME, hf:./FOLDER, package.module:factory or demo:resnet20"
Built = tuple[nn.Module, InputPreset, MakeExample]


@dataclass(frozen=True)
class DenseModel:
    """The network to prune: its MODEL string, the module in eval mode, and what identifies it.

    weights is the path of the file or folder, ``embedded``, or None for random ones; digest is the
    SHA-256 of the state_dict; preset says what the main input is, example makes the arguments of a
    call from its shape.
    """

    name: str
    module: nn.Module
    weights: str | None
    digest: str
    preset: InputPreset
    example: MakeExample = one_tensor


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
        Keyword arguments of the factory, e.g. ``{"num_classes": 10}``; of ``hf:`` models, values of
        the configuration.

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
        if source == "hf":
            name, folder, built = _from_hf(rest, keywords)
            weights = weights or folder
        elif source in _SOURCES:
            built = _SOURCES[source](rest, keywords)
        else:
            built = _from_factory(source, rest, keywords)
    module, preset, example = built
    if source == "demo" and weights is None:
        from ..demo import WEIGHTS

        load_weights(module, WEIGHTS, name)
        weights = "embedded"
    elif weights is not None:
        weights = os.path.abspath(weights)
        if not os.path.isdir(weights):
            load_weights(module, Path(weights), name)
    module.eval()
    return DenseModel(name, module, weights, digest(module), preset, example)


def absolute(name: str) -> str:
    """The MODEL string with the path of a local folder made absolute."""
    from . import huggingface as hf

    source, _, rest = name.partition(":")
    path = os.path.expanduser(rest)
    return f"hf:{os.path.abspath(path)}" if source == "hf" and hf.is_folder(rest) else name


def _from_timm(name: str, keywords: dict[str, Any]) -> Built:
    timm = _import_extra("timm")
    if not timm.is_model(name.split(".")[0]):
        raise _unknown("timm", name, timm.list_models())
    module = _call(f"timm:{name}", timm.create_model, name, pretrained=False, **keywords)
    return module, _preset(timm.data.resolve_model_data_config(module)), one_tensor


def _from_torchvision(name: str, keywords: dict[str, Any]) -> Built:
    models = _import_extra("torchvision.models")
    if name not in models.list_models():
        raise _unknown("torchvision", name, models.list_models())
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        keywords.setdefault("weights_backbone", None)  # else torchvision fetches a backbone
    module = _call(f"torchvision:{name}", models.get_model, name, weights=None, **keywords)
    if name in models.list_models(module=models.detection):
        # What a detector's own resizing makes of any image; it normalizes too.
        resizing: Any = module.transform
        side = resizing.min_size[-1] if resizing.fixed_size is None else resizing.fixed_size[0]
        return module, InputPreset((3, side, side)), list_of_images
    if name in models.list_models(module=models.optical_flow):
        return module, InputPreset((3, 368, 496)), two_tensors  # RAFT's first training crops
    # The first published weights tell the input size and the normalization; none is fetched.
    published = next(iter(models.get_model_weights(name))).transforms()
    resize = published.resize_size
    size = getattr(published, "crop_size", None) or resize
    clip = (16,) if name in models.list_models(module=models.video) else ()
    preset = InputPreset(
        (3, *clip, size[0], size[-1]),
        tuple(published.mean),
        tuple(published.std),
        size[0] / resize[0],
        "bicubic" if "bicubic" in str(published.interpolation).lower() else "bilinear",
    )
    return module, preset, one_tensor


def _from_hf(name: str, keywords: dict[str, Any]) -> tuple[str, str | None, Built]:
    """The MODEL string with an absolute path, the folder if it is one, and what is built."""
    from . import huggingface as hf

    _import_extra("transformers")
    folder = hf.folder_of(name) if hf.is_folder(name) else None
    try:
        built = hf.build(name, keywords) if folder is None else hf.load(folder, keywords)
    except PrunerError:
        raise
    except Exception as error:
        raise PrunerError(f"building MODEL {'hf:' + name!r} failed: {first_line(error)}") from error
    return absolute(f"hf:{name}"), None if folder is None else str(folder), built


def _from_demo(name: str, keywords: dict[str, Any]) -> Built:
    from ..demo import PREPROCESSING, resnet20

    if name != "resnet20":
        raise _unknown("demo", name, ["resnet20"])
    return _call("demo:resnet20", resnet20, **keywords), _preset(PREPROCESSING), one_tensor


_SOURCES = {"timm": _from_timm, "torchvision": _from_torchvision, "demo": _from_demo}


def _from_factory(module_name: str, attribute: str, keywords: dict[str, Any]) -> Built:
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
            raise PrunerError(f"importing {module_name!r} failed: {first_line(error)}") from error
        except Exception as error:
            raise PrunerError(f"importing {module_name!r} failed: {first_line(error)}") from error
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise _unknown(module_name, attribute, [k for k in vars(found) if k[0] != "_"])
            found = getattr(found, part)
        module = found if isinstance(found, nn.Module) else _call(name, found, **keywords)
    config = getattr(module, "default_cfg", None)
    return module, _preset(config if isinstance(config, Mapping) else {}), one_tensor


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
        raise PrunerError(f"building MODEL {name!r} failed: {first_line(error)}") from error
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


def _import_extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise PrunerError(
            f'{package} is not installed: pip install "msprune[zoo]" ({first_line(error)})'
        ) from error


def _unknown(source: str, name: str, known: Sequence[str]) -> PrunerError:
    hint = suggest_names(name, known, show=f"{source}:{{}}".format)
    return PrunerError(f"unknown MODEL {source + ':' + name!r}" + (hint and f": {hint}"))
