"""The network that a MODEL string names, its weights and the form of its inputs.

``timm:NAME``, ``torchvision:NAME``, ``hf:NAME`` (a class of the transformers library, a local
folder: ``hf:./path``, or a repository of its hub: ``hf:ORG/NAME``), ``package.module:factory``
(also from the current folder) and ``demo:resnet20`` (embedded, with its weights). Weights are
random, read from a file, or the published ones, of which what is missing is then downloaded.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import IMAGENET_MEAN, IMAGENET_STD
from ..errors import PrunerError, first_line
from ..graph import unwrap_model
from ..utils import refuse_library_code, refuse_standard_module, search_current_folder
from . import huggingface as hf
from .example_inputs import MakeExample, make_images_example, make_pair_example, make_tensor_example
from .input_config import InputPreset
from .model_names import (
    FORMS,
    find_folder,
    is_folder,
    is_repository,
    resolve_name,
    unknown_model,
)
from .pretrained import (
    explain_failure,
    fetch_repository,
    fetch_torchvision_weights,
    find_torchvision_weights,
    tell_timm_place,
)
from .weights import digest, load_weights

Built = tuple[nn.Module, InputPreset, MakeExample]


@dataclass(frozen=True)
class DenseModel:
    """The network to prune, in evaluation mode, and what identifies it.

    name is the MODEL string; weights the path of the file or folder, ``embedded``, ``pretrained``,
    or None for random ones; digest the SHA-256 of the state_dict; preset describes the main input,
    and example makes the arguments of a call from its shape, batch first. folder is where an
    ``hf:`` model lies with its tokenizer, on the user's disk or in the hub's cache.
    """

    name: str
    module: nn.Module
    weights: str | None
    digest: str
    preset: InputPreset
    example: MakeExample = make_tensor_example
    folder: str | None = None


def load_model(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
    pretrained: bool = False,
) -> DenseModel:
    """Build the network that a MODEL string names, in evaluation mode.

    Args:
        name: One of the forms in this module's first lines.
        weights: A ``.safetensors`` or ``torch.save`` file, of which only tensors are read; names
            and shapes must be the network's own. None: random weights.
        seed: Seed of random weights.
        arguments: Keyword arguments of the factory, e.g. ``{"num_classes": 10}``; of ``hf:``
            models, values of the configuration.
        pretrained: Take the published weights, by the library's own loader and cache: of
            ``timm:NAME.TAG`` and ``torchvision:NAME.TAG`` those that the tag names (without one the
            library's default), of ``hf:ORG/NAME`` the repository's.

    Raises:
        PrunerError: Unknown source, name or file, weights that do not fit or cannot be had, or a
            factory that fails.
    """
    source, colon, rest = name.partition(":")
    if not colon or not source or not rest:
        raise PrunerError(f"cannot read MODEL {name!r}: expected {FORMS}")
    keywords = dict(arguments or {})
    if pretrained:
        _check_published(source, rest, weights)
    folder: str | None = None
    # The same seed gives the same random weights, whatever ran before, and disturbs nobody's.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if source == "hf":
            name, folder, built = _build_huggingface(rest, keywords, pretrained)
            if not (pretrained and is_repository(rest)):
                weights = weights or folder
        elif source in _BUILDERS:
            built = _BUILDERS[source](rest, keywords, pretrained)
        else:
            built = _call_imported_factory(source, rest, keywords)
    module, preset, example = built
    module = unwrap_model(module)
    if source == "demo" and weights is None:
        from ..demo import WEIGHTS

        load_weights(module, WEIGHTS, name)
        weights = "embedded"
    elif weights is not None:
        weights = os.path.abspath(weights)
        if weights != folder:
            load_weights(module, Path(weights), name)
    elif pretrained:
        weights = "pretrained"
    module.eval()
    return DenseModel(name, module, weights, digest(module), preset, example, folder)


def _check_published(source: str, name: str, weights: object) -> None:
    """Raise PrunerError where no published weights can be meant."""
    if weights is not None:
        raise PrunerError("--pretrained and --weights: give one of the two")
    if source not in ("timm", "torchvision", "hf"):
        raise PrunerError(
            f"MODEL '{source}:{name}' has no published weights to fetch: --pretrained is for "
            "timm:NAME, torchvision:NAME and hf:ORG/NAME; give --weights FILE, or an --arg of your "
            "factory"
        )
    if source == "hf" and not is_folder(name):
        raise PrunerError(
            f"hf:{name} is a class, of which there are many weights: name a repository, "
            "hf:ORG/NAME, or a local folder, hf:./FOLDER"
        )


def _build_timm(name: str, keywords: dict[str, Any], pretrained: bool) -> Built:
    timm = _import_extra("timm")
    if not timm.is_model(name.split(".")[0]):
        raise unknown_model("timm", name, timm.list_models())
    if not pretrained:
        module = _build_module(f"timm:{name}", timm.create_model, name, **keywords)
    else:
        tagged = timm.list_models(f"{name.split('.')[0]}.*", pretrained=True)
        if not tagged or ("." in name and name not in tagged):
            hint = f": it has {', '.join(tagged)}" if tagged else ""
            raise PrunerError(f"timm has no pretrained weights {name!r}{hint}")
        place = tell_timm_place(timm.get_pretrained_cfg(name))
        with explain_failure(f"timm:{name}", place):
            try:
                module = timm.create_model(name, pretrained=True, **keywords)
            except TypeError:  # of an argument, maybe: then it is said to be that, not the weights
                _build_module(f"timm:{name}", timm.create_model, name, **keywords)
                raise
    return module, _read_preset(timm.data.resolve_model_data_config(module)), make_tensor_example


def _build_torchvision(name: str, keywords: dict[str, Any], pretrained: bool) -> Built:
    models = _import_extra("torchvision.models")
    name, _, tag = name.partition(".")
    if name not in models.list_models():
        raise unknown_model("torchvision", name, models.list_models())
    published = find_torchvision_weights(models, name, tag) if pretrained or tag else None
    weights = published if pretrained else None
    if weights is not None:
        fetch_torchvision_weights(f"torchvision:{name}", weights.url)
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        keywords.setdefault("weights_backbone", None)  # else torchvision fetches a backbone
    keywords["weights"] = weights
    module = _build_module(f"torchvision:{name}", models.get_model, name, **keywords)
    if name in models.list_models(module=models.detection):
        return _describe_detector(module)
    if name in models.list_models(module=models.optical_flow):
        return module, InputPreset((3, 368, 496)), make_pair_example  # RAFT's first training crops
    # Weights tell the input size and the normalization: the first published where none are asked
    # for, and none is fetched.
    view = (published or next(iter(models.get_model_weights(name)))).transforms()
    resize = view.resize_size
    size = getattr(view, "crop_size", None) or resize
    clip = (16,) if name in models.list_models(module=models.video) else ()
    preset = InputPreset(
        (3, *clip, size[0], size[-1]),
        tuple(view.mean),
        tuple(view.std),
        size[0] / resize[0],
        "bicubic" if "bicubic" in str(view.interpolation).lower() else "bilinear",
    )
    return module, preset, make_tensor_example


def _describe_detector(module: Any) -> Built:
    """Return a detector of torchvision with what its own resizing makes of any image.

    It normalizes images itself.
    """
    resizing = module.transform
    height, width = resizing.fixed_size or [resizing.min_size[-1]] * 2
    preset = InputPreset((3, height, width), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return module, preset, make_images_example


def _build_huggingface(
    name: str, keywords: dict[str, Any], pretrained: bool
) -> tuple[str, str | None, Built]:
    """Return the MODEL string with an absolute path, the model's folder, and the model."""
    _import_extra("transformers")
    published = pretrained and is_repository(name)
    if published:
        source: Path | None = fetch_repository(name)
    else:
        source = find_folder(name) if is_folder(name) else None
    try:
        built = hf.build(name, keywords) if source is None else hf.load(source, keywords)
    except PrunerError:
        raise
    except Exception as error:
        raise PrunerError(f"building MODEL {'hf:' + name!r} failed: {first_line(error)}") from error
    path = None if source is None else os.path.abspath(source)
    return resolve_name(f"hf:{name}", pretrained), path, built


def _build_demo(name: str, keywords: dict[str, Any], _: bool) -> Built:
    from ..demo import PREPROCESSING, resnet20

    if name != "resnet20":
        raise unknown_model("demo", name, ["resnet20"])
    module = _build_module("demo:resnet20", resnet20, **keywords)
    return module, _read_preset(PREPROCESSING), make_tensor_example


_BUILDERS = {"timm": _build_timm, "torchvision": _build_torchvision, "demo": _build_demo}


def _call_imported_factory(module_name: str, attribute: str, keywords: dict[str, Any]) -> Built:
    name = f"{module_name}:{attribute}"
    with search_current_folder():
        refuse_standard_module(name, "MODEL")
        try:
            found: Any = importlib.import_module(module_name)
        except Exception as error:
            absent = error.name if isinstance(error, ModuleNotFoundError) else None
            if absent and (module_name + ".").startswith(absent + "."):
                raise PrunerError(
                    f"unknown MODEL {name!r}: there is no module {absent!r} to import "
                    f"(MODEL is {FORMS})"
                ) from error
            raise PrunerError(f"importing {module_name!r} failed: {first_line(error)}") from error
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise unknown_model(module_name, attribute, [k for k in vars(found) if k[0] != "_"])
            found = getattr(found, part)
        refuse_library_code(found, name, "MODEL")
        module = found if isinstance(found, nn.Module) else _build_module(name, found, **keywords)
    detection: Any = sys.modules.get("torchvision.models.detection.transform")
    kind = getattr(detection, "GeneralizedRCNNTransform", ())
    if isinstance(getattr(unwrap_model(module), "transform", None), kind):
        return _describe_detector(unwrap_model(module))
    config = getattr(module, "default_cfg", None)
    return module, _read_preset(config if isinstance(config, Mapping) else {}), make_tensor_example


def _build_module(name: str, factory: Any, *values: Any, **keywords: Any) -> nn.Module:
    if not callable(factory):
        raise PrunerError(f"MODEL {name!r} is a {type(factory).__name__}, not a factory")
    try:
        module = factory(*values, **keywords)
    except Exception as error:
        raise PrunerError(f"building MODEL {name!r} failed: {first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise PrunerError(f"MODEL {name!r} returned a {type(module).__name__}, not a torch module")
    return module


def _read_preset(config: Mapping[str, Any]) -> InputPreset:
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
    except Exception as error:  # a torchvision that was built for another torch, for instance
        raise PrunerError(
            f"importing {module!r} failed: {first_line(error)}; is torchvision the release, and of "
            f"the same source (PyPI, or PyTorch's index for CPUs), that goes with torch "
            f"{torch.__version__}?"
        ) from error
