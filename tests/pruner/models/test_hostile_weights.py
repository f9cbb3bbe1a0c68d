"""Weight files that ask for memory instead of holding numbers, or run code: refused at once."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from pruner.errors import PrunerError
from pruner.models.checkpoint_file import read_checkpoint

HUGE = 10**12


class Calls:
    """Pickled, it calls a function where it is read."""

    def __init__(self, function, *values):
        self.call = function, values

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        Calls(os.system, "touch executed"),
        Calls(bytes, HUGE),
        Calls(np.zeros(0).__reduce__()[0], np.ndarray, (HUGE,), b"b"),
        Calls(getattr, "x", "upper"),
        Calls(eval, "open('executed', 'w')"),
    ],
    ids=["os.system", "bytes", "array", "getattr", "eval"],
)
def test_calls_are_refused(content, new, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"w": content}, tmp_path / "w.pth", _use_new_zipfile_serialization=new)
    try:
        found = read_checkpoint(tmp_path / "w.pth")
        assert found["w"].nbytes == 0  # an array whose bytes never came
    except PrunerError as error:
        assert "w.pth" in str(error)
    assert not (tmp_path / "executed").exists()


def test_an_array_of_a_shape_alone_takes_no_memory(tmp_path):
    torch.save({"w": Calls(np.ndarray, (HUGE,))}, tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth")["w"].nbytes == 0


def test_arrays_still_come_as_they_were(tmp_path):
    arrays = {"f": np.arange(6.0).reshape(2, 3), "b": np.array([True]), "n": np.float32(2),
              "bytes": b"abc", "text": "abc"}  # fmt: skip
    torch.save(arrays, tmp_path / "w.pth")
    found = read_checkpoint(tmp_path / "w.pth")
    assert np.array_equal(found["f"], arrays["f"]) and found["f"].dtype == np.float64
    assert found["b"].tolist() == [True] and found["n"] == 2 and found["bytes"] == b"abc"


def test_a_packed_archive_is_refused(tmp_path):
    raw = io.BytesIO()
    torch.save({"w": torch.zeros(1 << 20)}, raw)
    packed = zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(raw) as source, packed as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(PrunerError, match="would grow to"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps(print), b"\x80\x02" * 50])
def test_what_is_no_checkpoint_is_refused(content, tmp_path):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(PrunerError, match=r"w\.pth"):
        read_checkpoint(tmp_path / "w.pth")
