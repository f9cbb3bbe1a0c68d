"""``hf:`` models: a class of the transformers library with random weights, or a local folder.

Nothing is downloaded, no pickle is read, and no code that lies in a folder is run.
"""

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import IMAGENET_MEAN, IMAGENET_STD
from ..errors import PrunerError
from .example_inputs import Example, MakeExample, draw_noise
from .input_config import InputPreset
from .model_names import unknown_model
from .weights import list_some

TEXT_TOKENS = 77
"""Tokens of an example text, where the model's context is not shorter (CLIP's is as long)."""


def build(name: str, keywords: Mapping[str, Any]) -> tuple[nn.Module, InputPreset, MakeExample]:
    """Build a model with random weights by its class or architecture (``ViTModel``, ``ViT``).

    keywords replace values of its default configuration. PrunerError for what is not known.
    """
    import transformers

    kind = _find_class(transformers, name)
    with _silence_library():
        config = kind.config_class(**_check_keywords(kind, keywords))
        module = kind(config)
    return module, *_describe_inputs(kind, config, _read_default_preprocessing(config.model_type))


def load(folder: Path, keywords: Mapping[str, Any]) -> tuple[nn.Module, InputPreset, MakeExample]:
    """Load a local folder: ``config.json``, safetensors, ``preprocessor_config.json`` if there.

    keywords replace values of the configuration. PrunerError where files or weights are missing.
    """
    import transformers

    content = _read_json(folder / "config.json")
    known = [name for name in content.get("architectures") or () if hasattr(transformers, name)]
    if not known and not content.get("model_type"):
        raise PrunerError(f"{folder / 'config.json'} names no architecture and no model_type")
    kind = _find_class(transformers, known[0] if known else str(content.get("model_type")))
    config = kind.config_class.from_dict({**content, **_check_keywords(kind, keywords)})
    with _silence_library():
        options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
        module, report = kind.from_pretrained(folder, config=config, **options)
    missing = sorted(map(str, report["missing_keys"]))
    if missing:
        raise PrunerError(f"the weights in {folder} lack {list_some(missing)} of {kind.__name__}")
    path = folder / "preprocessor_config.json"
    settings = _read_json(path) if path.is_file() else {}
    settings = settings or _read_default_preprocessing(config.model_type)
    return module.float(), *_describe_inputs(kind, config, settings)


@contextmanager
def _silence_library() -> Iterator[None]:
    """Hide the library's remarks and progress bars; errors still come as exceptions."""
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


def _find_class(transformers: Any, name: str) -> Any:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    base = MODEL_MAPPING_NAMES.get(name.lower().replace("-", "_"))
    for candidate in (name, f"{name}Model", base):
        found: Any = getattr(transformers, candidate, None) if isinstance(candidate, str) else None
        model = inspect.isclass(found) and issubclass(found, transformers.PreTrainedModel)
        if model and found.config_class is not None:
            return found
    models = [n for n in dir(transformers) if n.endswith("Model") or "For" in n]
    raise unknown_model("hf", name, [*models, *MODEL_MAPPING_NAMES])


def _check_keywords(kind: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
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


def _read_default_preprocessing(model_type: str) -> dict[str, Any]:
    """Return the settings of the family's default image processor; {} where it has none."""
    import transformers
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    known: Any = IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type) or ()
    for name in known.values() if isinstance(known, Mapping) else known:
        try:
            return dict(getattr(transformers, str(name))().to_dict())
        except (AttributeError, ImportError, TypeError):  # needs a library that is not there
            continue
    return {}


def _describe_inputs(
    kind: Any, config: Any, settings: Mapping[str, Any]
) -> tuple[InputPreset, MakeExample]:
    """Return the preset of the main input and a maker of arguments: images, text, or both."""
    names = inspect.signature(kind.forward).parameters
    modalities = getattr(kind, "input_modalities", None) or ()
    modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    pixels = "pixel_values" in names
    text = "input_ids" in names and (not pixels or "text" in modalities)
    vision = getattr(config, "vision_config", None) or config
    words = getattr(config, "text_config", None) or config
    length = min(getattr(words, "max_position_embeddings", None) or TEXT_TOKENS, TEXT_TOKENS)
    crop = _parse_size(settings.get("crop_size") if settings.get("do_center_crop", True) else None)
    resized = _parse_size(settings.get("size"))
    own_size = _parse_size(getattr(vision, "image_size", None))
    height, width = own_size or crop or resized or (224, 224)
    image: tuple[int, ...] = (getattr(vision, "num_channels", None) or 3, height, width)
    if "video" in modalities:
        image = (getattr(vision, "num_frames", None) or 16, *image)
    if not pixels and not text:
        raise PrunerError(
            f"hf:{kind.__name__} takes {kind.main_input_name}: only images (pixel_values) and text "
            "(input_ids) can be made up; trace it in Python with pruner.trace(model, inputs)"
        )

    def make_example(shape: tuple[int, ...]) -> Example:
        arguments = {}
        if text:
            tokens = (shape[0], length) if pixels else shape
            arguments["input_ids"] = _draw_token_ids(words, tokens)
        if pixels:
            arguments["pixel_values"] = draw_noise(shape)
        if text and "attention_mask" in names:
            arguments["attention_mask"] = torch.ones_like(arguments["input_ids"])
        return Example((), arguments)

    share = min(1.0, height / resized[0]) if crop and resized else 1.0
    preset = InputPreset(
        image if pixels else (length,),
        tuple(settings.get("image_mean") or IMAGENET_MEAN),
        tuple(settings.get("image_std") or IMAGENET_STD),
        float(settings.get("crop_pct") or share),
        "bicubic" if settings.get("resample") == 3 else "bilinear",
    )
    return preset, make_example


def _parse_size(value: Any) -> tuple[int, int] | None:
    """Return height and width from any of the forms in which configurations say them."""
    if isinstance(value, Mapping):
        if value.get("height") and value.get("width"):
            return int(value["height"]), int(value["width"])
        value = value.get("shortest_edge")
    if isinstance(value, int) and value:
        return value, value
    if isinstance(value, list | tuple) and len(value) == 2:
        return int(value[0]), int(value[1])
    return None


def _draw_token_ids(config: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """Draw random tokens; the last is the one that ends a text, where the model knows one."""
    size = int(getattr(config, "vocab_size", 0) or 1000)
    ids = torch.randint(0, size, shape, generator=torch.Generator().manual_seed(0))
    end = getattr(config, "eos_token_id", None)
    if isinstance(end, int) and 0 <= end < size:
        ids[:, -1] = end
    return ids
