"""A tiny network, data as users have it, and what goes wrong, for every built-in task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from .segments import CLASSES, SIZE, draw_pair

HERE = "tests.pruner.every_task"
COLOURS = ("red", "green", "blue")
DIGITS = "0123"
WORDS = 12
TOKENS = ("input_ids=1x4:int", "attention_mask=1x4:ones")


class Trunk(nn.Module):
    """Features [n, 12, h, w] of images, with one residual block."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 12, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(12)
        self.conv1 = nn.Conv2d(12, 24, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 12, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(12)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.stem(x)))
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(x + self.bn2(self.conv2(y)))


class Classifier(nn.Module):
    """Three scores an image."""

    def __init__(self) -> None:
        super().__init__()
        self.default_cfg = {"input_size": (3, SIZE, SIZE)}
        self.trunk, self.head = Trunk(), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x).mean((2, 3)))


class DenseNet(nn.Module):
    """Maps of values or class scores for every pixel."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.default_cfg = {"input_size": (3, SIZE, SIZE)}
        self.trunk, self.head = Trunk(), nn.Conv2d(12, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


class TwoHeads(nn.Module):
    """Class scores and distances of every pixel, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.default_cfg = {"input_size": (3, SIZE, SIZE)}
        self.trunk = Trunk()
        self.seg, self.far = nn.Conv2d(12, CLASSES, 1), nn.Conv2d(12, 1, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.trunk(x)
        return {"seg": self.seg(x), "far": self.far(x)}


class Reader(nn.Module):
    """Scores [n, 8, digits and blank] of grey lines [n, 1, 8, 32]."""

    def __init__(self) -> None:
        super().__init__()
        self.default_cfg = {"input_size": (1, 8, 32), "mean": (0.5,), "std": (0.5,)}
        self.trunk = Trunk(1)
        self.head = nn.Linear(12, len(DIGITS) + 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.avg_pool2d(self.trunk(x), (8, 4))[:, :, 0]
        return self.head(x.transpose(1, 2))


class TextTower(nn.Module):
    """Vectors [n, 8] of texts of four tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first = nn.Embedding(WORDS, 64), nn.Linear(64, 2048)
        self.second = nn.Linear(2048, 8)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.second(functional.relu(self.first(self.table(input_ids))))
        mask = attention_mask[..., None].to(x.dtype)
        return (x * mask).sum(1) / mask.sum(1).clamp_min(1)


class TwoTowers(nn.Module):
    """Embeddings of images and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.head, self.text = Trunk(), nn.Linear(12, 8), TextTower()

    def forward(
        self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> dict[str, Tensor]:
        image = self.head(self.image(pixel_values).mean((2, 3)))
        return {"image_embeds": image, "text_embeds": self.text(input_ids, attention_mask)}


def make_tokens(count: int) -> dict[str, Tensor]:
    """Whole numbers [count, 4] and a mask."""
    return {
        "input_ids": torch.arange(4).expand(count, -1).contiguous(),
        "attention_mask": torch.ones(count, 4, dtype=torch.int64),
    }


def tokenize(texts: Any) -> dict[str, Tensor]:
    """Four tokens of every text, by the letters that its words begin with."""
    ids = torch.zeros(len(texts), 4, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        words = text.split()[:4]
        for k, word in enumerate(words):
            ids[row, k], mask[row, k] = 1 + ord(word[0]) % (WORDS - 1), 1
    return {"input_ids": ids, "attention_mask": mask}


def make_classifier() -> nn.Module:
    return Classifier()


def make_segmenter() -> nn.Module:
    return DenseNet(CLASSES)


def make_regressor() -> nn.Module:
    return DenseNet(1)


def make_two_heads() -> nn.Module:
    return TwoHeads()


def make_reader() -> nn.Module:
    return Reader()


def make_towers() -> nn.Module:
    return TwoTowers()


def make_encoder() -> nn.Module:
    return TextTower()


def draw_coloured(dice: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """A picture with a tint of one, two or three colours, and their names."""
    names = [name for name in COLOURS if dice.random() < 0.5] or ["red"]
    image = dice.integers(0, 100, (SIZE, SIZE, 3), dtype=np.uint8)
    for name in names:
        image[..., COLOURS.index(name)] += 120
    return image, names


def write_coloured(folder: Path, describe: Callable[[str, list[str]], str]) -> dict[str, list[str]]:
    """Write coloured pictures; return what is described of file and colours, by split."""
    dice, lines = np.random.default_rng(0), dict[str, list[str]]()
    for split, count in SPLITS:
        lines[split] = []
        for k in range(count):
            image, names = draw_coloured(dice)
            lines[split].append(describe(save(folder / split, f"{k}.png", image), names))
    return lines


def save(folder: Path, name: str, image: np.ndarray) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / name)
    return name


SPLITS = (("train", 16), ("val", 8))


def write_classes(folder: Path) -> None:
    dice = np.random.default_rng(0)
    for split, count in SPLITS:
        for label, name in enumerate(COLOURS):
            for k in range(count // 2):
                image = dice.integers(0, 120, (SIZE, SIZE, 3), dtype=np.uint8)
                image[..., label] += 100
                save(folder / split / name, f"{k}.png", image)


def write_labels(folder: Path) -> None:
    found = write_coloured(folder, lambda file, names: f"{file},{'|'.join(names)}")
    for split, lines in found.items():
        (folder / split / "labels.csv").write_text("\n".join(["image,labels", *lines]))


def write_dense(folder: Path) -> None:
    """Images with masks and, as 16 bits, depth: 100 where nothing is, 200 at the squares."""
    dice = np.random.default_rng(0)
    for split, count in SPLITS:
        for k in range(count):
            image, mask = draw_pair(dice)
            save(folder / split / "images", f"{k}.png", image)
            save(folder / split / "masks", f"{k}.png", mask)
            far = np.where(mask % 255 > 0, 200, 100).astype(np.uint16)
            far[0, :3] = 0
            save(folder / split / "depth", f"{k}.png", far)


def write_lines(folder: Path) -> None:
    """Lines of two digits: as many bright columns as each says."""
    dice = np.random.default_rng(0)
    for split, count in SPLITS:
        lines = []
        for k in range(count):
            text = "".join(DIGITS[i] for i in dice.integers(0, len(DIGITS), 2))
            image = np.zeros((8, 32), np.uint8)
            for place, digit in enumerate(text):
                start = 16 * place
                image[:, start : start + 3 + 3 * int(digit)] = 220
            save(folder / split, f"{k}.png", image)
            lines.append(f"{k}.png\t{text}")
        (folder / split / "labels.tsv").write_text("\n".join(["image\ttext", *lines]))
    (folder / "alphabet.txt").write_text(DIGITS)


def write_captions(folder: Path) -> None:
    found = write_coloured(
        folder, lambda file, names: json.dumps({"image": file, "text": " ".join(names)})
    )
    for split, lines in found.items():
        (folder / split / "captions.jsonl").write_text("\n".join(lines))


def write_texts(folder: Path) -> None:
    dice = np.random.default_rng(0)
    words = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"]
    for split, count in SPLITS:
        (folder / split).mkdir(parents=True)
        texts = [" ".join(words[i] for i in dice.integers(0, 8, 3)) for _ in range(2 * count)]
        (folder / split / "texts.csv").write_text("\n".join(["text", *texts]))


@dataclass(frozen=True)
class Case:
    """A task on a tiny network.

    Attributes:
        network: The factory.
        settings: The task's entry of a configuration.
        write: Writes a folder of data.
        metric: The key of its metric.
        inputs: A batch's inputs, of n samples.
        targets: A batch's targets.
        wrong: Targets that do not fit, and what is said of them; None without labels.
        blank: Targets of which nothing counts, and what is said of them; None where all count.
        other: Metrics beside the main one.
        arguments: Of ``--input``, where the network takes several.
    """

    network: str
    settings: Mapping[str, Any]
    write: Callable[[Path], None]
    metric: str
    inputs: Callable[[int], Any]
    targets: Callable[[int], Any]
    wrong: tuple[Callable[[int], Any], str] | None
    blank: tuple[Callable[[int], Any], str] | None = None
    other: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


def images(count: int, channels: int = 3, height: int = SIZE, width: int = SIZE) -> Tensor:
    dice = torch.Generator().manual_seed(count)
    return torch.randn(count, channels, height, width, generator=dice)


def maps(count: int, known: bool = True, channels: int = 1) -> dict[str, Tensor]:
    return {
        "map": torch.full((count, channels, SIZE, SIZE), 1.5),
        "valid": torch.full((count, 1, SIZE, SIZE), known),
    }


def masks(value: int) -> Callable[[int], Tensor]:
    return lambda count: torch.full((count, SIZE, SIZE), value)


CASES: dict[str, Case] = {
    "classification": Case(
        f"{HERE}:make_classifier", {"name": "classification"}, write_classes, "accuracy",
        images, lambda n: torch.arange(n) % 3,
        (lambda n: torch.full((n,), 7), "labels go from 7 to 7"),
    ),
    "multilabel": Case(
        f"{HERE}:make_classifier", {"name": "multilabel", "workers": 0}, write_labels,
        "mean_average_precision", images, lambda n: (torch.rand(n, 3) < 0.5).float(),
        (lambda n: torch.ones(n, 4), "do not fit scores"),
        (lambda n: torch.full((n, 3), -1.0), "shows a class"),
    ),
    "segmentation": Case(
        f"{HERE}:make_segmenter", {"name": "segmentation", "workers": 0}, write_dense, "mean_iou",
        images, masks(1), (masks(9), "classes from 9 to 9"), (masks(255), "no pixel counts"),
    ),
    "depth": Case(
        f"{HERE}:make_regressor",
        {"name": "depth", "workers": 0, "scale": 0.01, "invalid": 0, "loss": "l2",
         "metric": ["abs_rel", "rmse", "delta1"]},
        write_dense, "relative_error", images, maps,
        (lambda n: maps(n, channels=2), "do not fit the network's"),
        (lambda n: maps(n, False), "nothing to measure"), ("rmse", "within_1_25"),
    ),
    "retrieval": Case(
        f"{HERE}:make_towers",
        {"name": "retrieval", "workers": 0, "tokenizer": f"{HERE}:tokenize", "k": 2},
        write_captions, "recall_2", lambda n: {"pixel_values": images(n), **make_tokens(n)},
        torch.arange, (lambda n: torch.rand(n), "numbers of images"),
        arguments=(f"pixel_values=1x3x{SIZE}x{SIZE}", *TOKENS),
    ),
    "embedding": Case(
        f"{HERE}:make_encoder", {"name": "retrieval", "tokenizer": f"{HERE}:tokenize"},
        write_texts, "rank_correlation", make_tokens, lambda n: torch.zeros(n), None,
        arguments=TOKENS,
    ),
    "recognition": Case(
        f"{HERE}:make_reader",
        {"name": "recognition", "workers": 0, "metric": "both", "mean": 0.5, "std": 0.5},
        write_lines, "word_accuracy", lambda n: images(n, 1, 8, 32),
        lambda n: torch.ones(n, 2, dtype=torch.int64),
        (lambda n: torch.full((n, 2), 9), "do not fit scores"), None, ("character_error_rate",),
    ),
    "several": Case(
        f"{HERE}:make_two_heads",
        {"name": "several", "weights": {"far": 0.5},
         "tasks": {
             "seg": {"name": "segmentation", "workers": 0},
             "far": {"name": "depth", "workers": 0, "scale": 0.01, "invalid": 0, "loss": "l2",
                     "metric": "rmse"},
         }},
        write_dense, "seg_mean_iou", images, lambda n: {"seg": masks(1)(n), "far": maps(n)},
        (lambda n: {"seg": masks(9)(n)}, "task seg: masks hold classes"),
        (lambda n: {"seg": masks(255)(n), "far": maps(n)}, "no pixel counts"), ("far_rmse",),
    ),
}  # fmt: skip
"""The built-in tasks; detection has its own tests."""


class EmptyData:
    """Batches without samples."""

    def __init__(self, case: Case) -> None:
        self.batch = (case.inputs(0), case.targets(0))

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Any:
        return iter([self.batch])

    def epoch(self, epoch: int, start: int = 0) -> Any:
        return iter([self.batch][start:])

    def train(self, *sizes: int, **options: Any) -> EmptyData:
        return self

    def test(self, *sizes: int, **options: Any) -> EmptyData:
        return self

    def fingerprint(self) -> str:
        return "empty"


def make_data(name: str, kind: str) -> Any:
    """Data of a case in memory: good, nan, wrong, blank, empty, or untested: without a test split.

    Of wrong and blank ones the test samples alone are such.
    """
    case = CASES[name]
    if kind == "empty":
        return EmptyData(case)
    spoilt = {"wrong": case.wrong, "blank": case.blank}.get(kind)
    inputs, targets = case.inputs(8), case.targets(8)
    if kind == "nan":
        inputs = pytree.tree_map(lambda x: x * float("nan") if x.is_floating_point() else x, inputs)
    good = split_rows(inputs, targets)
    test = good if spoilt is None else split_rows(inputs, spoilt[0](8))
    return good if kind == "untested" else (good, test)


def split_rows(inputs: Any, targets: Any) -> list[tuple[Any, Any]]:
    def take(values: Any, row: int) -> Any:
        return pytree.tree_map(lambda x: x[row], values)

    return [(take(inputs, row), take(targets, row)) for row in range(8)]
