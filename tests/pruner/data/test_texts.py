"""Images with texts and lines of text: every table, tokens, alphabets, what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from pruner.data import Preprocessing, open_image_texts, open_text_lines, open_texts
from pruner.errors import PrunerError, PrunerWarning

HOW = Preprocessing((16, 16), (0.0,) * 3, (1.0,) * 3)
GREY = Preprocessing((16, 64), (0.5,), (0.5,))
ROWS = [("a.png", "a cat, black"), ("b.png", 'a "dog"'), ("a.png", "the cat"), ("c.png", "näh")]


def make_table(folder, rows=ROWS, ending="csv", columns=("image", "text"), stem="captions"):
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(sorted({name for name, _ in rows})):
        Image.new("RGB", (40 + 8 * k, 20), (50 * k, 0, 0)).save(folder / name)
    path = folder / f"{stem}.{ending}"
    if ending == "jsonl":
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
    elif ending == "csv":
        quoted = [(name, '"' + text.replace('"', '""') + '"') for name, text in rows]
        lines = [",".join(row) for row in ([columns] if columns else []) + quoted]
    else:
        lines = ["\t".join(row) for row in ([columns] if columns else []) + list(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Letters:
    """Makes a tensor of the lengths of texts."""

    def __call__(self, texts):
        return {"input_ids": torch.tensor([[len(text)] for text in texts])}


@pytest.mark.parametrize("ending, columns", [
    ("csv", ("image", "text")), ("tsv", ("file_name", "caption")), ("jsonl", ("image", "text")),
    ("csv", ("filepath", "caption")), ("tsv", None),
])  # fmt: skip
def test_tables_of_every_kind(tmp_path, ending, columns):
    for split in ("train", "val"):
        make_table(tmp_path / split, ending=ending, columns=columns)
    data = open_image_texts(tmp_path, HOW, tokenizer=Letters(), workers=0)
    (inputs, targets), *_ = data.test(4)
    assert targets["text"] == [text for _, text in ROWS] and targets["image"].tolist() == [
        0,
        1,
        0,
        2,
    ]
    assert inputs["input_ids"].flatten().tolist() == [len(text) for _, text in ROWS]
    assert inputs["pixel_values"].shape == (4, 3, 16, 16)
    reds = inputs["pixel_values"][:, 0, 0, 0] * 255
    assert torch.allclose(reds, torch.tensor([0.0, 50.0, 0.0, 100.0]), atol=1e-3)
    plain = open_image_texts(tmp_path, HOW, workers=1)
    (images, _), *_ = plain.train(4, seed=1)
    assert images.shape == (4, 3, 16, 16) and plain.fingerprint() != data.fingerprint()


def test_tables_beside_the_folders(tmp_path):
    make_table(tmp_path, ending="csv", stem="train")
    make_table(tmp_path, ending="csv", stem="val", rows=ROWS[:1])
    data = open_image_texts(tmp_path, HOW, workers=0)
    assert len(data.training) == 4 and len(data.testing) == 1


def test_missing_images_are_named_or_left_out(tmp_path):
    make_table(tmp_path / "train")
    (tmp_path / "train/b.png").unlink()
    with pytest.raises(PrunerError, match=r"1 of 4 images of .*captions.csv are missing .*b\.png"):
        open_image_texts(tmp_path, HOW)
    with pytest.warns(PrunerWarning, match="1 of 4 images .* are left out"):
        assert len(open_image_texts(tmp_path, HOW, on_error="skip").training) == 3


@pytest.mark.parametrize("name, content, message", [
    ("captions.csv", "image,size\na.png,3\n", "no column text or caption .*found image, size"),
    ("captions.csv", "image,text\na.png\n", "line 2 has 1 cells, expected 2"),
    ("captions.jsonl", '{"image": "a.png"}\n', "no column text"),
    ("captions.jsonl", '{"image": "a.png", "text": "x"}\n{"image": "b.png"}', "row 2 has no text"),
    ("captions.jsonl", "[1]\n", "expected an object"),
    ("captions.jsonl", "{\n", "line 1 is no JSON"),
    ("captions.csv", "", "no rows of images and texts"),
    ("other.csv", "", "no table; expected train/captions.jsonl"),
])  # fmt: skip
def test_wrong_tables_are_refused(tmp_path, name, content, message):
    make_table(tmp_path / "train", rows=ROWS)
    (tmp_path / "train/captions.csv").unlink()
    (tmp_path / "train" / name).write_text(content)
    with pytest.raises(PrunerError, match=message) as caught:
        open_image_texts(tmp_path, HOW)
    assert "\n" not in str(caught.value)


def test_lines_keep_their_proportions(tmp_path):
    rows = [("a.png", "AB"), ("b.png", "B C")]
    for split in ("train", "val"):
        make_table(tmp_path / split, rows, "tsv", None, "labels")
    ramp = np.tile(np.arange(0, 200, 5, dtype=np.uint8), (20, 1))
    Image.fromarray(ramp).save(tmp_path / "val/a.png")  # 40 x 20
    data = open_text_lines(tmp_path, GREY, alphabet="ABC ", workers=0)
    (images, targets), *_ = data.test(2)
    assert images.shape == (2, 1, 16, 64) and data.classes == ("A", "B", "C", " ")
    assert [one["tokens"].tolist() for one in targets] == [[1, 2], [2, 4, 3]]
    assert [one["text"] for one in targets] == ["AB", "B C"]
    assert torch.equal(images[0, 0, :, 32:], images[0, 0, :, 31:32].expand(16, 32))
    assert (images[0, 0, 0, :32].diff() > 0).all() and data.training.blank == 0
    last = open_text_lines(tmp_path, GREY, alphabet="ABC ", blank_last=True, workers=0)
    (_, targets), *_ = last.test(2)
    assert targets[1]["tokens"].tolist() == [1, 3, 2] and last.training.blank == 4
    widths = {tuple(x[0, 0, 0].tolist()) for x, _ in data.train(1, seed=1)}
    assert len(widths) == 2


def test_alphabets(tmp_path):
    rows = [("a.png", "CAB"), ("b.png", "BÄ")]
    make_table(tmp_path / "train", rows, "csv", ("image", "text"), "labels")
    with pytest.warns(PrunerWarning, match="the training texts' 4 characters"):
        assert open_text_lines(tmp_path, GREY).training.alphabet == "ABCÄ"
    (tmp_path / "alphabet.txt").write_text("ABC\nÄ ", encoding="utf-8")
    assert open_text_lines(tmp_path, GREY, outputs=6).training.alphabet == "ABCÄ "
    with pytest.raises(PrunerError, match="5 characters and the blank, but the network has 97"):
        open_text_lines(tmp_path, GREY, outputs=97)
    with pytest.raises(PrunerError, match="'A' stands twice"):
        open_text_lines(tmp_path, GREY, alphabet="ABA")
    with pytest.raises(PrunerError, match="1 texts of .*labels.csv have characters .*'Ä' in 'BÄ'"):
        open_text_lines(tmp_path, GREY, alphabet="ABC")
    with pytest.warns(PrunerWarning, match="are left out"):
        data = open_text_lines(tmp_path, GREY, alphabet="ABC", on_error="skip")
    assert len(data.training) == 1
    with pytest.raises(PrunerError, match="'x' is not in the alphabet"):
        data.training.encode("Ax")


def test_texts_alone(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        rows = [{"text": "a b"}, {"text": "", "id": 3}, {"text": "ccc"}]
        (tmp_path / split / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = open_texts(tmp_path, Letters())
    (inputs, targets), *_ = data.test(3)
    assert inputs["input_ids"].flatten().tolist() == [3, 0, 3]
    assert targets["text"] == ["a b", "", "ccc"]
    (tmp_path / "val/texts.jsonl").write_text('{"sentence": 1, "text": null}')
    with pytest.raises(PrunerError, match="row 1 has no text"):
        open_texts(tmp_path, Letters())
