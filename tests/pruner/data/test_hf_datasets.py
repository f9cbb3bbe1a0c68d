"""Hugging Face data sets on disk: columns by their types, and what they give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pruner.data import FolderTokenizer, Framing, Preprocessing, open_saved_dataset, wrap_datasets
from pruner.errors import PrunerError, PrunerWarning

datasets = pytest.importorskip("datasets")

HOW = Preprocessing((8, 8), (0.0,) * 3, (1.0,) * 3)
LABEL = datasets.ClassLabel(names=["cat", "dog"]) if datasets else None
TEXT, INT = datasets.Value("string"), datasets.Value("int64")


def pictures(count=4, size=(20, 30)):
    return [Image.fromarray(np.full((*size, 3), 20 * k, np.uint8)) for k in range(count)]


def make(columns, features):
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def labelled(extra=True):
    columns = {"img": pictures(), "label": [0, 1, 1, 0], "title": ["x"] * 4, "id": [1, 2, 3, 4]}
    return make(columns, {"img": datasets.Image(), "label": LABEL, "title": TEXT, "id": INT})


def save(root, train, held_out="validation", test=None):
    splits = {"train": train, held_out: train if test is None else test}
    datasets.DatasetDict(splits).save_to_disk(str(root))


def test_images_with_labels(tmp_path):
    save(tmp_path, labelled())
    data = open_saved_dataset(tmp_path, HOW, workers=0)
    (images, labels), *_ = data.test(4)
    assert data.classes == ("cat", "dog") and labels.tolist() == [0, 1, 1, 0]
    assert torch.allclose(images[:, 0, 0, 0] * 255, torch.tensor([0.0, 20, 40, 60]), atol=1e-3)
    (again, labels), *_ = open_saved_dataset(tmp_path, HOW, workers=1).train(4, seed=1)
    assert again.shape == (4, 3, 8, 8) and sorted(labels.tolist()) == [0, 0, 1, 1]
    assert data.fingerprint() == open_saved_dataset(tmp_path, HOW).fingerprint()


@pytest.mark.parametrize("names", [("image", "annotation"), ("pixels", "mask"), ("image", "grid")])
def test_images_with_masks(tmp_path, names):
    masks = [Image.fromarray(np.full((20, 30), k, np.uint8)) for k in range(4)]
    kind = datasets.Image()
    if names[1] == "grid":
        masks, kind = (
            [np.asarray(one).tolist() for one in masks],
            datasets.Array2D((20, 30), "uint8"),
        )
    save(
        tmp_path,
        make({names[0]: pictures(), names[1]: masks}, {names[0]: datasets.Image(), names[1]: kind}),
    )
    data = open_saved_dataset(tmp_path, HOW, framing=Framing("letterbox"), workers=0)
    (images, targets), *_ = data.test(4)
    assert targets.shape == (4, 8, 8) and (targets[:, 0] == 255).all()
    assert targets[:, 4, 0].tolist() == [0, 1, 2, 3]


def test_texts_tokens_and_numbers(tmp_path):
    texts = ["a b", "b", "a a a", ""]
    save(
        tmp_path / "text",
        make(
            {"text": texts, "score": [0.5, -1, 2, 3]},
            {"text": TEXT, "score": datasets.Value("float32")},
        ),
    )
    (inputs, targets), *_ = open_saved_dataset(
        tmp_path / "text", columns={"label": "score"}, workers=0
    ).test(4)
    assert inputs == texts and targets.tolist() == [0.5, -1, 2, 3]
    columns = {
        "input_ids": [[1, 2], [3, 4], [5, 6], [7, 8]],
        "attention_mask": [[1, 1]] * 4,
        "label": [0, 1, 0, 1],
    }
    many = datasets.Sequence(INT)
    save(
        tmp_path / "tokens",
        make(columns, {"input_ids": many, "attention_mask": many, "label": LABEL}),
    )
    (inputs, targets), *_ = open_saved_dataset(tmp_path / "tokens", workers=0).test(4)
    assert inputs["input_ids"].tolist() == columns["input_ids"] and targets.tolist() == [0, 1, 0, 1]
    save(
        tmp_path / "both",
        make({"image": pictures(), "text": texts}, {"image": datasets.Image(), "text": TEXT}),
    )
    (inputs, targets), *_ = open_saved_dataset(tmp_path / "both", HOW, workers=0).test(4)
    assert inputs.shape == (4, 3, 8, 8) and targets["text"] == texts


def test_a_tokenizer_in_a_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n")
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    save(
        tmp_path / "text",
        make({"text": ["a b", "b"], "label": [0, 1]}, {"text": TEXT, "label": LABEL}),
    )
    tokenizer = FolderTokenizer(tmp_path / "bert", 5)
    data = open_saved_dataset(tmp_path / "text", tokenizer=tokenizer, workers=0)
    (inputs, _), *_ = data.test(2)
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (2, 5)
    assert inputs["attention_mask"].sum(1).tolist() == [4, 3]
    with pytest.raises(PrunerError, match="no folder of a tokenizer"):
        FolderTokenizer(tmp_path / "absent", 5)(["a"])


def test_columns_that_types_do_not_tell_are_asked_for(tmp_path):
    columns = {"left": pictures(), "right": pictures(), "a": [0] * 4, "b": [1] * 4}
    kinds = {"left": datasets.Image(), "right": datasets.Image(), "a": LABEL, "b": LABEL}
    two = make(columns, kinds)
    save(tmp_path, two)
    with pytest.raises(PrunerError, match="left, right may each be the image; say columns"):
        open_saved_dataset(tmp_path, HOW)
    with pytest.raises(PrunerError, match="a, b may each be the label"):
        open_saved_dataset(tmp_path, HOW, columns={"image": "left"})
    data = open_saved_dataset(tmp_path, HOW, columns={"image": "left", "label": "b"}, workers=0)
    assert next(iter(data.test(4)))[1].tolist() == [1] * 4
    with pytest.raises(PrunerError, match="no column 'lefd'; did you mean left"):
        open_saved_dataset(tmp_path, HOW, columns={"image": "lefd"})
    with pytest.raises(PrunerError, match="columns: expected one of image, mask, text"):
        open_saved_dataset(tmp_path, HOW, columns={"picture": "left"})


def test_a_number_is_a_label_where_it_is_called_so(tmp_path):
    kinds = {"image": datasets.Image(), "id": INT}
    save(tmp_path, make({"image": pictures(), "id": [5, 6, 7, 8]}, kinds))
    with pytest.warns(PrunerWarning, match="no label: id is not read; say columns: {label: NAME}"):
        data = open_saved_dataset(tmp_path, HOW, workers=0)
    assert next(iter(data.test(4)))[1] is None
    data = open_saved_dataset(tmp_path, HOW, columns={"label": "id"}, workers=0)
    assert next(iter(data.test(4)))[1].tolist() == [5, 6, 7, 8]


def test_what_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(PrunerError, match="no data set that datasets' save_to_disk wrote"):
        open_saved_dataset(tmp_path)
    save(tmp_path / "numbers", make({"a": [1.5]}, {"a": datasets.Value("float32")}))
    with pytest.raises(PrunerError, match="no column of images, texts or tokens; found a: number"):
        open_saved_dataset(tmp_path / "numbers")
    secret = make({"img": pictures(), "label": [-1] * 4, "title": ["x"] * 4, "id": [1] * 4},
                  {"img": datasets.Image(), "label": LABEL, "title": TEXT, "id": INT})  # fmt: skip
    save(tmp_path / "secret", labelled(), "test", secret)
    data = open_saved_dataset(tmp_path / "secret", HOW, workers=0)
    with pytest.raises(PrunerError, match=r"secret test: row 0: no label \(label is -1\)"):
        list(data.test(4))
    bytes_of = {"bytes": b"nothing", "path": None}
    raw = datasets.Features(
        {"image": {"bytes": datasets.Value("binary"), "path": TEXT}, "label": LABEL}
    )
    broken = datasets.Dataset.from_dict({"image": [bytes_of], "label": [0]}, features=raw)
    broken = broken.cast_column("image", datasets.Image())
    with pytest.raises(PrunerError, match="row 0: not readable") as caught:
        list(wrap_datasets(broken, HOW, workers=0).train(1))
    assert "\n" not in str(caught.value)
