"""Files appear whole or not at all; digests tell of every change; names are suggested."""

from __future__ import annotations

import pytest
import torch

from pruner import PrunerError
from pruner.errors import first_line
from pruner.utils import digest_tensors, read_tensors, replace_file, suggest_names, write_tensors

FORM = "{name} {dtype} {shape}\n"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError), replace_file(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and path.read_text() == "old"


def test_tensors_come_back_and_an_edited_file_does_not(tmp_path):
    path, tensors = tmp_path / "file", {"b": torch.arange(4.0), "a": torch.tensor([True])}
    write_tensors(path, "kind", tensors, {"n": 1})
    found, header = read_tensors(path, "kind")
    assert header == {"n": 1} and all(torch.equal(found[k], v) for k, v in tensors.items())
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PrunerError, match="edited"):
        read_tensors(path, "kind")


def test_names_types_shapes_and_values_change_a_digest():
    x = torch.arange(4, dtype=torch.int32)
    found = [{"x": x}, {"y": x}, {"x": x.view(2, 2)}, {"x": x.view(torch.float32)}, {"x": x + 1}]
    assert len({digest_tensors(state, FORM) for state in found}) == len(found)


def test_similar_names_are_suggested():
    known = ["magnitude", "taylor"]
    assert suggest_names("tailor", known, 1, 0.6, repr) == "did you mean 'taylor'?"
    assert suggest_names("zzz", known) == ""


def test_first_lines():
    assert first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("one\ntwo")) == "ValueError: one"
    assert first_line(ValueError("one\ntwo"), with_kind=False) == "one"
