"""Rendered words say where they are; CRAFT's maps of them give their boxes back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.words import (
    ALPHABET,
    compose_page,
    draw_word,
    find_boxes,
    find_fonts,
    list_sentences,
    list_words,
    render_maps,
    write_lines,
    write_pages,
)

WORDS = ["alpha", "beta", "gamma", "delta"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A dark and a bright photograph."""
    folder = tmp_path_factory.mktemp("photos")
    for k, shade in enumerate((40, 200)):
        Image.new("RGB", (300, 280), (shade, shade, shade)).save(folder / f"{k}.png")
    return sorted(folder.iterdir())


def test_letters_lie_where_they_are_said_to_lie() -> None:
    font = find_fonts()[0]
    for angle in (0.0, 3.0, -3.0):
        word = draw_word("AWAY", font, 40, angle=angle)
        ink = np.asarray(word.picture.getchannel("A")) / 255
        assert word.corners.shape == (4, 4, 2)
        low, high = word.corners.min((0, 1)), word.corners.max((0, 1))
        height, width = ink.shape
        assert low == pytest.approx((0, 0), abs=3) and high == pytest.approx((width, height), abs=3)
        columns = np.arange(width) + 0.5
        for quad in word.corners:  # each character has its own ink
            inside = (columns > quad[:, 0].min()) & (columns < quad[:, 0].max())
            assert ink[:, inside].sum() > 0.1 * ink.sum()
    steps = np.diff(draw_word("iiii", font, 40).corners[:, :2, 0].mean(1))
    assert steps == pytest.approx(np.full(3, steps[0]))


def test_maps_of_words_give_their_boxes(photos: list[Path]) -> None:
    found = given = 0
    for seed in range(6):
        page = compose_page(WORDS, find_fonts(), photos, 256, (seed,))
        region, affinity = render_maps(page.corners, (256, 256))
        boxes = find_boxes(region, affinity)
        given += len(page.words)
        for box in page.boxes:
            low = np.maximum(boxes[:, :2], box[:2])
            both = (np.minimum(boxes[:, 2:], box[2:]) - low).clip(0).prod(1)
            areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
            found += bool((both / (areas - both)).max() >= 0.5)
        assert len(boxes) == len(page.words)
    assert found >= 0.9 * given > 5


def test_files_are_read_as_they_were_written(photos: list[Path], tmp_path: Path) -> None:
    fonts = find_fonts()
    for name in ("one", "again"):
        lines = write_lines(tmp_path / name, WORDS, fonts, photos, count=6, seed=(3,))
        pages = write_pages(
            tmp_path / name / "pages", WORDS, fonts, photos, count=3, size=128, seed=(3,)
        )
    one, again = tmp_path / "one", tmp_path / "again"
    head, *rows = (one / "labels.tsv").read_text().splitlines()
    assert head == "image\ttext" and [r.split("\t")[1] for r in rows] == [t for _, t in lines]
    for row in rows:
        name, text = row.split("\t")
        assert set(text) <= set(ALPHABET)
        assert (one / name).read_bytes() == (again / name).read_bytes()
        assert np.asarray(Image.open(one / name).convert("L")).std() > 5  # the ink stands out
    coco = json.loads((one / "pages" / "annotations.json").read_text())
    assert coco == json.loads((again / "pages" / "annotations.json").read_text())
    assert [a["text"] for a in coco["annotations"]] == [w for p in pages for w in p.words]
    for one_box in coco["annotations"]:
        assert len(one_box["characters"]) == len(one_box["text"])


def test_words_and_sentences_of_a_text() -> None:
    text = """Two dogs sleep in the sun today. They (both) like it! Is it so?

    Number | Meaning
    -------|--------
    One    | A table. It is no sentence for this purpose at all."""
    assert list_words(text, 4, 6) == ["both", "dogs", "like", "sleep", "table", "this", "today"]
    assert list_sentences(text, 4, 10) == [
        "They (both) like it!",
        "Two dogs sleep in the sun today.",
    ]
    assert len(list_words()) > 1000 and len(list_sentences()) > 500


def test_a_folder_without_fonts_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no fonts"):
        find_fonts(tmp_path)
