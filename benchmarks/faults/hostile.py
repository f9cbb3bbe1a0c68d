"""Weights, networks, RUNs and data that mean harm: refused without executing or allocating."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from . import commands
from .cases import Case, Result, judge_refusal
from .commands import Said
from .networks import CHANGES, Change
from .scene import RUN, Scene

MARK = "executed"
"""A file that exists where something of a file was executed."""
SAME = "the answers are the same"
MOST_MORE = 600 << 20
"""Bytes that a refusal may take beyond what a process has that loads an honest network."""
HUGE = 10**12
Attempt = Callable[[Scene, Path], Said]


def list_cases(scene: Scene, seed: int) -> list[Case]:
    """Return all cases."""
    found = [*_list_weights(), *_list_networks(), *_list_states(), *_list_others()]
    return [
        Case("hostile", number, kind, lambda place, one=attempt: _attempt(scene, one, place))  # type: ignore[misc]
        for number, (kind, attempt) in enumerate(found)
    ]


def _attempt(scene: Scene, attempt: Attempt, place: Path) -> Result:
    said = attempt(scene, place)
    if any(place.rglob(f"*{MARK}*")):
        return Result.fail(f"it was executed: {said.err[-300:]}")
    usual = _measure_usual(scene)
    if said.peak_bytes > usual + MOST_MORE:
        return Result.fail(f"it took {(said.peak_bytes - usual) >> 20} MiB more than usual")
    if said.code == 0 and SAME in said.out:
        return Result.survive("harmless", SAME)
    result = judge_refusal(said)
    return result or Result.fail(f"it was taken: {said.out[-300:]}")


def _measure_usual(scene: Scene) -> int:
    place = scene.place("tuned")
    return commands.call(lambda: _load(place / RUN), place).peak_bytes


def _load(path: Path) -> None:
    import pruner

    pruner.load(path)


class _Executes:
    """Pickled, it leaves a mark where it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


class _Calls:
    """Pickled, it calls a function with arguments where it is read."""

    def __init__(self, function: Any, *values: Any) -> None:
        self.call = function, values

    def __reduce__(self) -> Any:
        return self.call


# Weights: what a user gets from somewhere, given by --weights.


def _list_weights() -> Iterator[tuple[str, Attempt]]:
    contents: dict[str, Callable[[Path, Path], object]] = {
        "a pickle that executes": lambda file, mark: (
            file.write_bytes(pickle.dumps({"w": _Executes(mark)})) and None
        ),
        "a torch.save file that executes": lambda file, mark: torch.save(
            {"w": _Executes(mark)}, file
        ),
        "a legacy torch.save file that executes": lambda file, mark: torch.save(
            {"w": _Executes(mark)}, file, _use_new_zipfile_serialization=False
        ),
        "bytes of a number": lambda file, mark: torch.save({"w": _Calls(bytes, HUGE // 100)}, file),
        "an array of a shape alone": lambda file, mark: torch.save(
            {"w": _Calls(np.ndarray, (HUGE // 100,))}, file
        ),
        "a reconstructed array of a shape alone": lambda file, mark: torch.save(
            {"w": _Calls(np.zeros(0).__reduce__()[0], np.ndarray, (HUGE // 100,), b"b")}, file
        ),
        "a tensor of strides zero": lambda file, mark: torch.save(
            {"stem.weight": torch.zeros(1).expand(HUGE)}, file
        ),
        "a packed archive": lambda file, mark: _write_packed_archive(file),
        "an archive whose names climb": lambda file, mark: _write_climbing_archive(file),
        "nothing": lambda file, mark: file.write_bytes(b""),
        "noise": lambda file, mark: file.write_bytes(np.random.default_rng(0).bytes(4096)),
    }
    for kind, write in contents.items():
        yield f"weights: {kind}", _bind_weights(write, "weights.pth")
    headers = {
        "a header of 2^60 bytes": struct.pack("<Q", 1 << 60) + b"{}",
        "a huge shape": _pack_header(
            {"w": {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 4]}}
        ),
        "a shape that overflows": _pack_header(
            {"w": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]}}
        ),
        "offsets beyond the end": _pack_header(
            {"w": {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}}
        ),
        "an unknown type": _pack_header(
            {"w": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}
        ),
        "a header that is nested": struct.pack("<Q", 200_000) + b"[" * 200_000,
    }
    for kind, content in headers.items():
        yield (
            f"weights: safetensors with {kind}",
            _bind_weights(lambda file, mark, c=content: file.write_bytes(c),  # type: ignore[misc]
                          "weights.safetensors"),
        )  # fmt: skip


def _bind_weights(write: Callable[[Path, Path], object], name: str) -> Attempt:
    def attempt(scene: Scene, place: Path) -> Said:
        place.mkdir(parents=True)
        (place / "tiny_network.py").write_bytes((scene.work / "tiny_network.py").read_bytes())
        write(place / name, place / MARK)
        return commands.run(["inspect", "tiny_network:make", "--weights", name], place)

    return attempt


def _pack_header(header: dict[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * 4


def _write_packed_archive(file: Path) -> None:
    """Write a torch.save archive whose one tensor, of zeros, is packed: 1 MB for 1 GB."""
    raw = io.BytesIO()
    torch.save({"stem.weight": torch.zeros(1)}, raw)
    size = 1 << 30
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            if name.endswith("/data/0"):
                with target.open(name, "w") as stream:
                    for _ in range(size >> 20):
                        stream.write(b"\0" * (1 << 20))
            else:
                content = source.read(name)
                if name.endswith("data.pkl"):
                    content = content.replace(b"K\x01", b"J" + struct.pack("<i", size // 4))
                target.writestr(name, content)


def _write_climbing_archive(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as target:
        target.writestr(f"../../{MARK}", "x")
        target.writestr("archive/data.pkl", pickle.dumps({}))


# Networks: a model.safetensors whose seal is right, since whoever writes one can seal it.


def _list_networks() -> Iterator[tuple[str, Attempt]]:
    for kind, change in CHANGES.items():
        yield f"network: {kind}", _bind_network(change)


def _bind_network(change: Change) -> Attempt:
    def attempt(scene: Scene, place: Path) -> Said:
        place.mkdir(parents=True)
        source = scene.place("tuned") / RUN / "model.safetensors"

        def write() -> None:
            from pruner.utils import read_tensors, write_tensors

            tensors, header = read_tensors(source, "network")
            changed = copy.deepcopy(header)
            change(changed, str(place / MARK))
            write_tensors(place / "net" / "model.safetensors", "network", tensors, changed)

        written = commands.call(write, place)
        assert written.code == 0, written.err

        def use() -> None:
            import pruner

            network, honest = pruner.load(place / "net"), pruner.load(source.parent)
            image = torch.rand(1, 3, 16, 16)
            both = [pytree.tree_leaves(one(image))[0].flatten() for one in (network, honest)]
            if torch.equal(*both):
                print(SAME)

        return commands.call(use, place)

    return attempt


# run.json whose seal is right.


def _list_states() -> Iterator[tuple[str, Attempt]]:
    touch = {"args": ["touch", MARK]}
    changes: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
        "a budget's folder that climbs": (
            lambda s: s.update(budgets=["../victim"]), "report"),
        "a budget's folder that is absolute": (
            lambda s: s.update(budgets=["/tmp"]), "report"),
        "a file that climbs": (
            lambda s: s["files"].update({"../../etc/passwd": []}), "finetune"),
        "files of a step that climb": (
            lambda s: s["steps"]["solve"].update(files=["../../../etc/passwd"]), "bench"),
        "weights that climb": (
            lambda s: s["steps"]["solve"].update(weights="../../etc/passwd", key="x"),
            "finetune"),
        "a model that starts a program": (
            lambda s: s["config"].update(model="subprocess:run", arguments=touch), "solve"),
        "a model that starts a program by another name": (
            lambda s: s["config"].update(model="os:system", arguments={"command": f"touch {MARK}"}),
            "finetune"),
        "a model that reads pickles": (
            lambda s: s["config"].update(model="torch:load", arguments={
                "f": "evil.pth", "weights_only": False}), "solve"),
        "a model that reads arrays of objects": (
            lambda s: s["config"].update(model="numpy:load", arguments={
                "file": "evil.npy", "allow_pickle": True}), "solve"),
        "a model of a nested name": (
            lambda s: s["config"].update(model="pruner.utils.importing:importlib.import_module",
                                         arguments={"name": "antigravity"}), "solve"),
        "a task that starts a program": (
            lambda s: s["config"].update(task={"name": "subprocess:run", **touch}), "solve"),
        "data that start a program": (
            lambda s: s["config"].update(data="subprocess:run"), "solve"),
        "no identity": (lambda s: s.pop("identity"), "solve"),
        "an identity of nothing": (lambda s: s.update(identity={}), "solve"),
        "steps that are a list": (lambda s: s.update(steps=[]), "solve"),
        "a step without a key": (lambda s: s["steps"].update(solve={}), "finetune"),
        "no files": (lambda s: s.pop("files"), "report"),
        "a configuration of nothing": (lambda s: s.update(config={}), "solve"),
        "a configuration of other types": (
            lambda s: s["config"].update(measure=[1, 2], budgets=7), "solve"),
        "another format": (lambda s: s.update(format=99), "report"),
        "an input of huge sizes": (
            lambda s: (s["config"].update(input=[1, 3, 10**9, 10**9]),
                       s["identity"].update(input=[1, 3, 10**9, 10**9])), "solve"),
        "a parent that is no run": (lambda s: s.update(part_of_parent=True), "solve"),
    }  # fmt: skip
    for kind, (change, verb) in changes.items():
        yield f"run.json: {kind}", _bind_state(change, verb)


def _bind_state(change: Callable[[dict[str, Any]], Any], verb: str) -> Attempt:
    def attempt(scene: Scene, place: Path) -> Said:
        run = scene.copy("solved", place)
        (place / "evil.pth").write_bytes(pickle.dumps(_Executes(place / MARK)))
        np.save(place / "evil.npy", np.array([_Executes(place / MARK)]), allow_pickle=True)
        state = json.loads((run / "run.json").read_text(encoding="utf-8"))
        state.pop("seal")
        change(state)
        (run / "run.json").write_text(json.dumps(seal_state(state)), encoding="utf-8")
        asked = {"report": ["report", RUN], "bench": ["bench", RUN, "--runs", "5"],
                 "solve": ["solve", RUN, "--budget", "60%", "--no-check"],
                 "finetune": ["finetune", RUN, "--epochs", "1"]}  # fmt: skip
        return commands.run(asked[verb], place)

    return attempt


def seal_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a run.json with the seal that msprune gives it."""
    text = json.dumps(state, sort_keys=True)
    return {**state, "seal": hashlib.sha256(text.encode()).hexdigest()}


# Everything else that is read from somewhere.


def _list_others() -> Iterator[tuple[str, Attempt]]:
    yield "a table of 10^9 rows in some bytes", _write_table_bomb
    yield "a table whose header lacks everything", _write_bare_table
    yield "a result from a device that unpacks to 4 GB", _read_result_bomb
    yield "an image that unpacks to 4 GB", _write_image_bomb
    yield "a configuration that unpacks to 10^9 values", _write_yaml_bomb
    yield "a configuration that makes objects", _write_yaml_objects
    yield "a whole model of os.system", _write_whole
    yield "a Hugging Face folder with code", _write_hugging_face


def _write_table(place: Path, header: dict[str, Any], rows: Any) -> Said:
    import pyarrow
    from pyarrow import parquet

    place.mkdir(parents=True)
    parquet.write_table(pyarrow.table(rows), place / "latency.parquet", compression="zstd")
    digest = hashlib.sha256((place / "latency.parquet").read_bytes()).hexdigest()
    header = {"schema": 2, **header, "parquet_sha256": digest}
    text = json.dumps(header, sort_keys=True)
    header["header_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (place / "latency.json").write_text(json.dumps(header), encoding="utf-8")
    return commands.run(["tables", "show", "."], place)


def _write_table_bomb(scene: Scene, place: Path) -> Said:
    import pyarrow

    index = pyarrow.array(np.zeros(50_000_000, np.int8))
    column = pyarrow.DictionaryArray.from_arrays(index, pyarrow.array(["x" * 1000]))
    return _write_table(place, {"probes": []}, {"spec": column})


def _write_bare_table(scene: Scene, place: Path) -> Said:
    return _write_table(place, {}, {"spec": ["[]"]})


def _read_result_bomb(scene: Scene, place: Path) -> Said:
    place.mkdir(parents=True)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    chunks = [packer.compress(b" " * (1 << 20)) for _ in range(4096)]
    (place / "bomb.gz").write_bytes(b"".join([*chunks, packer.flush()]))
    assert gzip.GzipFile(place / "bomb.gz").read(1) == b" "

    def read() -> None:
        from latency_tables.devices.result import decode_result

        decode_result((place / "bomb.gz").read_bytes(), "bomb.gz")

    return commands.call(read, place)


def _write_image_bomb(scene: Scene, place: Path) -> Said:
    scene.copy("measured", place)
    data = place / "data"
    for split in ("train", "test"):
        for label in ("red", "green", "blue"):
            folder = data / split / label
            folder.mkdir(parents=True)
            (folder / "0.png").write_bytes(_pack_png(65_000))
    return commands.run(["solve", RUN, "--budget", "70%", "--data", "data", "--no-check"], place)


def _pack_png(size: int) -> bytes:
    """Return a PNG of size x size black pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    packer = zlib.compressobj(9)
    row = b"\0" * (size + 1)
    body = b"".join(packer.compress(row) for _ in range(200)) + packer.flush()
    head = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _run_config(place: Path, text: str) -> Said:
    place.mkdir(parents=True)
    (place / "config.yaml").write_text(text, encoding="utf-8")
    return commands.run(["run", "config.yaml"], place)


def _write_yaml_bomb(scene: Scene, place: Path) -> Said:
    lines = ["model: demo:resnet20", "out: RUN", "budgets: [70%]", "arguments:", "  a0: &a0 [1, 2]"]
    lines += [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return _run_config(place, "\n".join(lines))


def _write_yaml_objects(scene: Scene, place: Path) -> Said:
    mark = place / MARK
    return _run_config(
        place, f"model: !!python/object/apply:os.system ['touch {mark}']\nout: RUN\n"
    )


def _write_whole(scene: Scene, place: Path) -> Said:
    scene.copy("tuned", place / "copy")
    target = place / "net"
    target.mkdir()
    source = place / "copy" / RUN / "model.safetensors"
    (target / "model.safetensors").write_bytes(source.read_bytes())

    def write() -> None:
        from pruner.utils import write_tensors

        notes = {"model": "os:system", "arguments": {"command": f"touch {place / MARK}"},
                 "parts": ["stem"], "pretrained": False}  # fmt: skip
        write_tensors(target / "whole.safetensors", "whole", {"a": torch.zeros(1)}, notes)

    assert commands.call(write, place).code == 0
    return commands.call(lambda: _load(target), place)


def _write_hugging_face(scene: Scene, place: Path) -> Said:
    """A folder whose configuration names code in it, and whose weights are a pickle."""
    folder = place / "model"
    folder.mkdir(parents=True)
    content = {"model_type": "evil", "architectures": ["Evil"],
               "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "evil.py").write_text(f"open({str(place / MARK)!r}, 'w').close()\n", encoding="utf-8")
    torch.save({"w": _Executes(place / MARK)}, folder / "pytorch_model.bin")
    return commands.run(["inspect", f"hf:{folder}"], place)
