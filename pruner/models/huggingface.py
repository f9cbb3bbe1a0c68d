"""``hf:`` models: a class of the transformers library with random weights, or a local folder.

Nothing is downloaded, no pickle is read, and no code that lies in a folder is run.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import IMAGENET_MEAN, IMAGENET_STD
from ..errors import PrunerError
from ..utils import suggest_names
from .example_inputs import Example, MakeExample, noise
from .input_config import InputPreset

TEXT_TOKENS = 77
"""Tokens of an example text, where the model's context is not shorter (CLIP's is as long)."""


def build(name: str, keywords: Mapping[str, Any]) -> tuple[nn.Module, InputPreset, MakeExample]:
    """A model by the name of its class or architecture, e.g. ``ViTModel``, ``ViT``, ``vit``.

    keywords replace values of its default configuration. Raises PrunerError for what is not known.
    """
    import transformers

    kind = _model_class(transformers, name)
    with _quiet():
        config = kind.config_class(**_known(kind, keywords))
        module = kind(config)
    return module, *_inputs(kind, config, _default_preparation(config.model_type))


def load(folder: Path, keywords: Mapping[str, Any]) -> tuple[nn.Module, InputPreset, MakeExample]:
    """The model of a local folder: ``config.json``, safetensors, ``preprocessor_config.json``.

    keywords replace values of the configuration. Raises PrunerError where the folder does not hold
    all weights of the model.
    """
    import transformers

    content = _read_json(folder / "config.json")
    known = [name for name in content.get("architectures") or () if hasattr(transformers, name)]
    if not known and not content.get("model_type"):
        raise PrunerError(f"{folder / 'config.json'} names no architecture and no model_type")
    kind = _model_class(transformers, known[0] if known else str(content.get("model_type")))
    config = kind.config_class.from_dict({**content, **_known(kind, keywords)})
    with _quiet():
        module, report = kind.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True,
            output_loading_info=True,
        )  # fmt: skip
    missing = sorted(map(str, report["missing_keys"]))
    if missing:
        raise PrunerError(
            f"the weights in {folder} lack {', '.join(missing[:3])}"
            + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            + f" of {kind.__name__}"
        )
    preparation = folder / "preprocessor_config.json"
    told = _read_json(preparation) if preparation.is_file() else None
    return module.float(), *_inputs(kind, config, told or _default_preparation(config.model_type))


def is_folder(name: str) -> bool:
    """Whether the NAME of ``hf:NAME`` is meant as a path."""
    return name.startswith((".", "/", "~")) or os.path.isdir(name) or "/" in name


def folder_of(name: str) -> Path:
    """The folder that a NAME means; raises PrunerError where there is none."""
    path = Path(name).expanduser()
    if not (path / "config.json").is_file():
        raise PrunerError(
            f"hf:{name}: {path} is no folder with a config.json. Nothing is downloaded: give a "
            "class, e.g. hf:ViTForImageClassification, or a local folder, e.g. hf:./my-model"
        )
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's remarks and progress bars; errors still come as exceptions."""
    from transformers.utils import logging

    shown, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(shown)
        if bars:
            logging.enable_progress_bar()


def _model_class(transformers: Any, name: str) -> Any:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    base = MODEL_MAPPING_NAMES.get(name.lower().replace("-", "_"))
    for candidate in (name, f"{name}Model", base):
        found: Any = getattr(transformers, candidate, None) if isinstance(candidate, str) else None
        model = inspect.isclass(found) and issubclass(found, transformers.PreTrainedModel)
        if model and found.config_class is not None:
            return found
    models = [n for n in dir(transformers) if n.endswith("Model") or "For" in n]
    hint = suggest_names(name, [*models, *MODEL_MAPPING_NAMES], show="hf:{}".format)
    raise PrunerError(f"unknown MODEL {'hf:' + name!r}" + (hint and f": {hint}"))


def _known(kind: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
    default = kind.config_class()
    unknown = [name for name in keywords if not hasattr(default, name)]
    if unknown:
        raise PrunerError(f"{kind.config_class.__name__} has no {', '.join(unknown)}")
    return dict(keywords)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PrunerError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise PrunerError(f"{path} holds no names and values")
    return content


def _default_preparation(model_type: str) -> dict[str, Any]:
    """How the family's own image processor prepares images by default; {} where it has none."""
    import transformers
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    known: Any = IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type) or ()
    for name in known.values() if isinstance(known, Mapping) else known:
        try:
            return dict(getattr(transformers, str(name))().to_dict())
        except (AttributeError, ImportError, TypeError):  # needs a library that is not there
            continue
    return {}


def _inputs(
    kind: Any, config: Any, preparation: Mapping[str, Any]
) -> tuple[InputPreset, MakeExample]:
    """The preset of the main input, and the example arguments: images, text, or both."""
    names = inspect.signature(kind.forward).parameters
    modalities = getattr(kind, "input_modalities", None) or ()
    modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    pixels = "pixel_values" in names
    text = "input_ids" in names and (not pixels or "text" in modalities)
    vision = getattr(config, "vision_config", None) or config
    words = getattr(config, "text_config", None) or config
    length = min(getattr(words, "max_position_embeddings", None) or TEXT_TOKENS, TEXT_TOKENS)
    crop = _size(preparation.get("crop_size")) if preparation.get("do_center_crop", True) else None
    resized = _size(preparation.get("size"))
    height, width = _size(getattr(vision, "image_size", None)) or crop or resized or (224, 224)
    image: tuple[int, ...] = (getattr(vision, "num_channels", None) or 3, height, width)
    if "video" in modalities:
        image = (getattr(vision, "num_frames", None) or 16, *image)
    if not pixels and not text:
        raise PrunerError(
            f"hf:{kind.__name__} takes {kind.main_input_name}: only images (pixel_values) and text "
            "(input_ids) can be made up; trace it in Python with pruner.trace(model, inputs)"
        )

    def example(shape: tuple[int, ...]) -> Example:
        found = {}
        if text:
            tokens = (shape[0], length) if pixels else shape
            found["input_ids"] = _token_ids(words, tokens)
        if pixels:
            found["pixel_values"] = noise(shape)
        if text and "attention_mask" in names:
            found["attention_mask"] = torch.ones_like(found["input_ids"])
        return Example((), found)

    share = min(1.0, height / resized[0]) if crop and resized else 1.0
    preset = InputPreset(
        image if pixels else (length,),
        tuple(preparation.get("image_mean") or IMAGENET_MEAN),
        tuple(preparation.get("image_std") or IMAGENET_STD),
        float(preparation.get("crop_pct") or share),
        "bicubic" if preparation.get("resample") == 3 else "bilinear",
    )
    return preset, example


def _size(value: Any) -> tuple[int, int] | None:
    """Height and width, of the several forms in which configurations say them."""
    if isinstance(value, Mapping):
        if value.get("height") and value.get("width"):
            return int(value["height"]), int(value["width"])
        value = value.get("shortest_edge")
    if isinstance(value, int) and value:
        return value, value
    if isinstance(value, list | tuple) and len(value) == 2:
        return int(value[0]), int(value[1])
    return None


def _token_ids(config: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """Random tokens; the last is the one that ends a text, where the model knows one."""
    size = int(getattr(config, "vocab_size", 0) or 1000)
    ids = torch.randint(0, size, shape, generator=torch.Generator().manual_seed(0))
    end = getattr(config, "eos_token_id", None)
    if isinstance(end, int) and 0 <= end < size:
        ids[:, -1] = end
    return ids
