"""MODEL strings: their forms, the local folders that they may name, and what is wrong with one."""

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import PrunerError
from ..utils import suggest_names

FORMS = (
    "timm:NAME, torchvision:NAME, hf:NAME, hf:ORG/NAME, hf:./FOLDER, package.module:factory or "
    "demo:resnet20"
)

LIBRARIES = ("timm", "torchvision", "hf", "demo")
"""What may stand before the colon beside a package of the user's own."""


def is_folder(name: str) -> bool:
    """Return whether the NAME of ``hf:NAME`` is meant as a path."""
    return name.startswith((".", "/", "~")) or os.path.isdir(name) or "/" in name


def is_repository(name: str) -> bool:
    """Return whether the NAME of ``hf:NAME`` is a hub's ``ORG/NAME``, and not a folder."""
    form = name.count("/") == 1 and name[0] not in "./~" and not name.endswith("/")
    return form and not os.path.isdir(name)


def find_folder(name: str) -> Path:
    """Return the folder that the NAME of ``hf:NAME`` means; PrunerError where there is none."""
    path = Path(name).expanduser()
    if not (path / "config.json").is_file():
        raise PrunerError(
            f"hf:{name}: {path} is no folder with a config.json. Without --pretrained nothing is "
            "downloaded: give a class, e.g. hf:ViTForImageClassification, or a local folder, e.g. "
            "hf:./my-model"
        )
    return path


def resolve_name(name: str, pretrained: bool = False) -> str:
    """Return a MODEL string with the path of a local folder made absolute.

    Where the published weights are asked for (pretrained), ``hf:ORG/NAME`` is not a folder.
    """
    source, _, rest = name.partition(":")
    if pretrained and is_repository(rest):
        return name
    path = os.path.expanduser(rest)
    return f"hf:{os.path.abspath(path)}" if source == "hf" and is_folder(rest) else name


def unknown_model(source: str, name: str, known: Iterable[str]) -> PrunerError:
    """Make the error for ``source:name``, with the known names that are closest to it."""
    hint = suggest_names(name, known, show=f"{source}:{{}}".format)
    return PrunerError(f"unknown MODEL {source + ':' + name!r}" + (hint and f": {hint}"))


def describe_weights(name: str, weights: str | None) -> str:
    """Return where the weights of a MODEL string come from, in words.

    Without a file those of libraries are random; what a user's factory does only the user knows.
    """
    if weights is not None:
        return weights
    return "random" if name.partition(":")[0] in LIBRARIES else "as the factory makes them"
