"""Published weights, fetched by their libraries into the libraries' own caches.

timm, torchvision and the Hugging Face hub each know where their weights lie and keep them once
fetched. No pickled code is run: timm reads safetensors or tensors alone, the hub's folders are read
by safetensors, and a file of torchvision's is read as tensors alone before its builder opens it.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from ..errors import PrunerError, first_line
from .checkpoint_file import read_checkpoint
from .model_names import unknown_model

_HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
"""Of a repository's top folder: configuration, weights, and what a tokenizer is made of."""


def fetch_repository(name: str) -> Path:
    """Return the local folder of a repository of the Hugging Face hub, fetched where it is missing.

    Raises:
        PrunerError: It is not in the cache, and cannot be fetched.
    """
    from huggingface_hub import constants, snapshot_download

    where = (
        f"'hf download {name}' on a machine with a network fills its cache, which belongs into "
        f"{constants.HF_HUB_CACHE} here (HF_HOME says otherwise); or give its folder: hf:./FOLDER"
    )
    with explain_failure(f"hf:{name}", where):
        ours, below = list(_HUB_FILES), ["*/*"]
        return Path(snapshot_download(name, allow_patterns=ours, ignore_patterns=below))


def find_torchvision_weights(models: Any, name: str, tag: str) -> Any:
    """Return the entry of torchvision's weights that a tag names, ``""`` for its default.

    Raises:
        PrunerError: The network has no weights, or none of that tag.
    """
    entries = models.get_model_weights(name)
    if not len(entries):
        raise PrunerError(f"torchvision has no pretrained weights of {name!r}")
    if tag and tag not in entries.__members__:
        raise unknown_model("torchvision", f"{name}.{tag}", [f"{name}.{k.name}" for k in entries])
    return entries[tag] if tag else entries.DEFAULT


def fetch_torchvision_weights(model: str, url: str) -> Path:
    """Return the file of a torchvision network's weights, fetched into torch's cache.

    Its content is read as tensors alone, so that opening it again runs no code that lies in it.

    Raises:
        PrunerError: It is not in the cache and cannot be fetched, or holds more than tensors.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(urlparse(url).path)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with explain_failure(model, tell_place(url)):
            named = torch.hub.HASH_REGEX.search(path.name)  # what torch checks a download by
            prefix = named.group(1) if named else None
            torch.hub.download_url_to_file(url, str(path), prefix, progress=sys.stderr.isatty())
    read_checkpoint(path)
    return path


def tell_timm_place(config: Any) -> str:
    """Return in words where the weights of timm's configuration come from, and where they go."""
    if repository := getattr(config, "hf_hub_id", None):
        return (
            f"'hf download {repository}' on a machine with a network fills its cache, which "
            "belongs into HF_HOME here; or give the file of weights by --weights"
        )
    return tell_place(getattr(config, "url", None) or "the file of its weights")


def tell_place(url: str) -> str:
    """Return in words what to fetch, and where torch looks for it."""
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    return f"fetch {url} and put it into {folder}, or give the file by --weights"


@contextmanager
def explain_failure(model: str, remedy: str) -> Iterator[None]:
    """Turn whatever a library raises and logs while it fetches into one clear line.

    Raises:
        PrunerError: With what was asked for, the library's first line, and the remedy.
    """
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except PrunerError:
        raise
    except Exception as error:
        raise PrunerError(
            f"the pretrained weights of {model} cannot be had ({first_line(error)}): {remedy}"
        ) from error
    finally:
        logger.setLevel(level)
