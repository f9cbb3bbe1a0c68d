"""Settings that tasks share: how their data is read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, StrictFloat, StrictInt, StrictStr

from ..utils import entry, settings_class


def _read_numbers(value: object) -> object:
    """Return a number, or a list of such, as a tuple of floats."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (float(value),)
    if isinstance(value, list | tuple):
        whole = [float(one) if isinstance(one, int) else one for one in value]
        return tuple(whole)
    return value


Numbers = Annotated[
    tuple[StrictFloat, ...] | None,
    entry("of each channel of images in units of 0 to 1 (default: as the model says)"),
    BeforeValidator(_read_numbers, json_schema_input_type=list[float] | float | None),
]
"""One number, or one for every channel."""


@settings_class
class FileSettings:
    """How files are read."""

    workers: Annotated[
        StrictInt | None, entry("processes that read files (default: the cores, at most 8)", ge=0)
    ] = None
    on_error: Annotated[
        Literal["raise", "skip"], entry("what becomes of files that cannot be read: raise or skip")
    ] = "raise"


@settings_class
class DataSettings(FileSettings):
    """How files and Hugging Face's data sets are read."""

    columns: Annotated[
        dict[str, str] | None,
        entry("of a Hugging Face data set: image, mask, text, label to their columns, where types "
              "do not tell"),
    ] = None  # fmt: skip

    @property
    def saved(self) -> dict[str, Any]:
        """How a Hugging Face data set is read (see `pruner.data.open_saved_dataset`)."""
        return {"columns": self.columns, "workers": self.workers, "on_error": self.on_error}


@settings_class
class ImageSettings(DataSettings):
    """How images are read."""

    mean: Numbers = None
    std: Numbers = None


@settings_class
class DenseSettings(ImageSettings):
    """How images are read whose targets move with them."""

    fit: Annotated[Literal["stretch", "letterbox", "crop"], entry("how images meet the input")] = (
        "stretch"
    )
    suffix: Annotated[StrictStr, entry("what a target's name has behind its image's")] = ""
