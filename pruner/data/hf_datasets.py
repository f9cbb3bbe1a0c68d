"""Hugging Face ``datasets`` that were saved to disk."""

import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import PrunerError, first_line
from ..utils import digest_json
from .collate import to_tensor
from .decoding import make_rgb
from .dense_images import DenseImages
from .framing import Framing, check_same_size
from .hf_columns import HfColumns, choose_columns
from .mask_values import find_classes
from .preprocessing import Preprocessing, show_image
from .protocol import Batch
from .sample_data import SampleData
from .samples import Sample, Samples
from .tokens import Tokenizer

_HELD_OUT = ("validation", "val", "valid", "test", "testing")
_NO_LABEL = -1  # in test splits that are kept secret


@dataclass(frozen=True)
class HfSamples(Samples):
    """Rows of one split of a ``datasets.Dataset``.

    Images with labels give (float32 [C, H, W], int64 []), as image folders do; images with masks
    (float32 [C, H, W], int64 [H, W]); texts and tokens keyword arguments and their label; images
    with texts what `pruner.data.ImageTextSamples` gives. Targets are None without a label.

    Attributes:
        where: The folder and the split, for messages.
        dataset: Holds the columns that are read.
        columns: What they are for.
        how: What becomes of images, or None.
        tokenizer: Texts to keyword arguments; without one, texts are a list.
        image_argument: The keyword argument of images beside texts.
        ignore: Value of pixels of masks that do not count.
    """

    where: str
    dataset: Any
    columns: HfColumns
    how: DenseImages | None = None
    tokenizer: Tokenizer | None = None
    image_argument: str = "pixel_values"
    ignore: int = 255

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, row: int, rng: random.Random | None) -> Sample:
        """Read a row; PrunerError where it cannot be decoded or has no label."""
        name = f"{self.where}: row {row}"
        try:
            found = self.dataset[row]
        except Exception as error:  # whatever decoding raises
            raise PrunerError(f"{name}: not readable ({first_line(error)})") from error
        columns = self.columns
        label = None if columns.label is None else found[columns.label]
        secret = label == _NO_LABEL and hasattr(self.dataset.features[columns.label], "names")
        if columns.label is not None and (label is None or secret):
            raise PrunerError(f"{name}: no label ({columns.label} is {label})")
        target = to_tensor(label)
        if columns.mask is not None:
            return self._read_mask(found, name, rng)
        if columns.image is not None:
            image = self._show(found[columns.image], name, rng)
            if columns.text is not None:
                target = {"text": str(found[columns.text]), "image": row}
            return image, target
        if columns.text is not None:
            return str(found[columns.text]), target
        return {key: to_tensor(found[key]) for key in columns.tokens}, target

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Join rows, and make tokens of their texts together."""
        inputs, targets = super().collate(samples)
        if self.tokenizer is None or self.columns.text is None:
            return inputs, targets
        if self.columns.image is None:
            return dict(self.tokenizer(inputs)), targets
        return {self.image_argument: inputs, **self.tokenizer(targets["text"])}, targets

    def fingerprint(self) -> str:
        """Return a digest of the data set's own fingerprint and the settings."""
        settings = [self.how and self.how.describe(), repr(self.tokenizer), self.image_argument]
        own = [self.dataset._fingerprint, len(self), asdict(self.columns), self.ignore]
        return digest_json([own, settings])

    def _show(self, image: Any, name: str, rng: random.Random | None) -> torch.Tensor:
        return show_image(self._get_image(image, name), self._images.preprocessing, rng)

    def _read_mask(self, found: Mapping[str, Any], name: str, rng: random.Random | None) -> Sample:
        raw = found[self.columns.mask or ""]
        mask = find_classes(raw, name) if isinstance(raw, Image.Image) else np.asarray(raw)
        shown, frame = self._images.show(
            self._get_image(found[self.columns.image or ""], name), rng
        )
        check_same_size(name, "mask", frame.image, (mask.shape[0], mask.shape[1]))
        return shown, torch.from_numpy(frame.cut_mask(mask.astype(np.int64), self.ignore))

    def _get_image(self, image: Any, name: str) -> Image.Image:
        if not isinstance(image, Image.Image):
            raise PrunerError(f"{name}: no image ({type(image).__name__})")
        return make_rgb(image, name)

    @property
    def _images(self) -> DenseImages:
        if self.how is None:
            raise PrunerError(f"{self.where}: images need the network's preprocessing")
        return self.how


def open_saved_dataset(
    folder: str | os.PathLike[str],
    preprocessing: Preprocessing | None = None,
    *,
    columns: Mapping[str, Any] | None = None,
    tokenizer: Tokenizer | None = None,
    framing: Framing | None = None,
    image_argument: str = "pixel_values",
    ignore: int = 255,
    workers: int | None = None,
    on_error: str = "raise",
) -> SampleData[HfSamples]:
    """Open a Hugging Face data set that ``save_to_disk`` wrote; nothing is downloaded.

    Args:
        folder: Of a ``DatasetDict`` with train, and validation or test, or of one ``Dataset``.
        preprocessing: Of images.
        columns: Role (image, mask, text, tokens, label) to column, where types do not tell; see
            `choose_columns`.
        tokenizer: Makes keyword arguments of texts, such as `FolderTokenizer`.
        framing: Of images with masks.
        image_argument: The keyword argument of images beside texts.
        ignore: Value of pixels of masks that do not count.
        workers: Processes that read samples (None: the cores, at most 8).
        on_error: ``"raise"`` or ``"skip"`` rows that cannot be read.

    Raises:
        PrunerError: ``datasets`` is not installed, the folder is none of its, or no column is an
            input.
    """
    try:
        import datasets
    except ImportError as error:
        raise PrunerError(
            f"{folder}: Hugging Face data sets need datasets: pip install datasets"
        ) from error
    root = Path(folder)
    if not is_saved_dataset(root):
        raise PrunerError(f"{root}: no data set that datasets' save_to_disk wrote")
    try:
        found = datasets.load_from_disk(str(root))
    except Exception as error:  # whatever a damaged folder raises
        raise PrunerError(f"{root}: not a readable data set ({first_line(error)})") from error
    return wrap_hf(
        found, preprocessing, where=str(root), columns=columns, tokenizer=tokenizer,
        framing=framing, image_argument=image_argument, ignore=ignore, workers=workers,
        on_error=on_error,
    )  # fmt: skip


def is_saved_dataset(folder: str | os.PathLike[str]) -> bool:
    """Whether ``save_to_disk`` of Hugging Face's ``datasets`` wrote a folder."""
    names = ("dataset_dict.json", "state.json")
    return any(os.path.isfile(os.path.join(folder, name)) for name in names)


def is_hf(made: Any) -> bool:
    """Whether an object is a ``datasets.Dataset`` or a dict of them."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(made, datasets.Dataset | datasets.DatasetDict)


def wrap_hf(
    found: Any,
    preprocessing: Preprocessing | None,
    *,
    where: str,
    columns: Mapping[str, Any] | None = None,
    tokenizer: Tokenizer | None = None,
    framing: Framing | None = None,
    image_argument: str = "pixel_values",
    ignore: int = 255,
    workers: int | None = None,
    on_error: str = "raise",
) -> SampleData[HfSamples]:
    """Make training and test batches of a data set in memory; see `open_saved_dataset`."""
    splits = dict(found) if isinstance(found, Mapping) else {"train": found}
    if "train" not in splits:
        raise PrunerError(f"{where}: no split train; found {', '.join(splits) or 'nothing'}")
    held_out = next((name for name in _HELD_OUT if name in splits), None)
    features = splits["train"].features
    chosen = choose_columns(features, columns or {}, where)
    how = DenseImages(preprocessing, framing or Framing()) if preprocessing is not None else None

    def wrap(name: str) -> HfSamples:
        missing = [one for one in chosen.list_names() if one not in splits[name].features]
        if missing:
            raise PrunerError(f"{where}: {name} has no column {missing[0]}, which train has")
        rows = splits[name].select_columns(chosen.list_names()).with_format(None)
        told = f"{where} {name}"
        return HfSamples(told, rows, chosen, how, tokenizer, image_argument, ignore)

    classes = tuple(getattr(features.get(chosen.label), "names", None) or ())
    notes = []
    if chosen.label is None and chosen.mask is None and chosen.text is None:
        left = ", ".join(name for name in features if name not in chosen.list_names())
        notes.append(f"no label: {left or 'nothing'} is not read; say columns: {{label: NAME}}")
    return SampleData(
        where, wrap("train"), wrap(held_out) if held_out else None, classes, tuple(notes), workers,
        on_error,
    )  # fmt: skip
