"""The verb export: writes a RUN's cut network for another runtime, and checks it there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, fx, nn

from ..errors import PrunerError
from ..formats import (
    FOLDER_FORMAT,
    FileModule,
    Format,
    PlainNetwork,
    WriteOptions,
    describe_tensor,
    export_network,
    find_format,
)
from ..models import make_example, make_tensor_example, parse_specs
from ..surgery import FILE, load
from ..utils import ProgressDisplay, digest_file, digest_json, require_single_process
from . import run_folder as names
from .console_summary import Outcome
from .context import Workspace, find_versions, open_run
from .export_summary import summarize_export
from .results import require_plan
from .tracing import read_parts
from .transformers_export import export_run, write_folder
from .tuning_stage import evaluate_network

CALIBRATION_SAMPLES = 128
"""Training samples, or as near as whole batches come, that the ranges of int8 are taken from."""
_COMPARED_BATCHES = 2  # of them, that answers are compared on


def export(
    network: nn.Module | str | os.PathLike[str],
    format: str,
    out: str | os.PathLike[str] | None = None,
    *,
    inputs: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    precision: str = "fp32",
    calibration: Sequence[tuple[Any, ...]] = (),
    target: str | None = None,
    threads: int = 1,
    changes: Mapping[str, Any] | None = None,
    progress: ProgressDisplay | None = None,
) -> Outcome:
    """Write a network for another runtime, run the file, and compare its answers with torch's.

    Args:
        network: A solved RUN, whose example inputs, data and threads are then taken; or a module,
            or the folder of one that `pruner.save` wrote.
        format: One of ``onnx``, ``openvino``, ``pt2``, ``torchscript``, ``tensorrt``, ``coreml``,
            ``litert``, ``executorch``; or ``hf``, a folder that transformers' AutoModel loads.
        out: The file, of ``hf`` the folder; of a RUN by default ``model`` in it, with the
            precision where that is not fp32, or ``hf``.
        inputs: Example arguments of a module.
        kwargs: Example keyword arguments of a module.
        precision: ``fp32``, ``fp16`` or ``int8``: static quantization after training.
        calibration: Arguments, of the examples' batch, that the ranges of a module's int8 are taken
            from; of a RUN they are its training samples.
        target: The GPU that TensorRT builds for where none is here, ``SM89``.
        threads: Threads that a module's file is run on.
        changes: Entries of a RUN's configuration that differ, such as ``{"data": "DIR"}``.
        progress: Where it says what it does.

    Returns:
        Text, and as plain data: the file, its size in bytes, the largest difference to torch's
        answers, absolute and as a share of the outputs' spread, the latency in milliseconds.

    Raises:
        PrunerError: The format or precision is unknown, its library is missing, the RUN is not
            solved, the file cannot be written, the format cannot hold the network, or the file's
            answers are not torch's.
    """
    require_single_process("export")
    if format == FOLDER_FORMAT:
        return _export_folder(network, out, precision, changes, progress)
    form = find_format(format, precision)
    options = WriteOptions(precision, target=target)
    if not isinstance(network, nn.Module):
        if (Path(network) / names.STATE).is_file() or not (Path(network) / FILE).is_file():
            return _export_run(network, form, out, options, changes, progress)
        network = load(Path(network))
    if out is None:
        raise PrunerError("export: give out, the file to write")
    if not inputs and not kwargs:
        raise PrunerError("export: give inputs, example arguments of the network")
    plain = PlainNetwork.of(network, inputs, kwargs)
    rows = [plain.take(row, {}) for row in calibration]
    known = WriteOptions(precision, rows, _describe_network(plain, precision), target)
    return summarize_export(export_network(plain, form, Path(out), known, threads=threads))


def _export_folder(
    network: nn.Module | str | os.PathLike[str],
    out: str | os.PathLike[str] | None,
    precision: str,
    changes: Mapping[str, Any] | None,
    progress: ProgressDisplay | None,
) -> Outcome:
    """Write a RUN, a module, or a folder of one that `pruner.save` wrote, for transformers."""
    if precision != "fp32":
        raise PrunerError(
            f"--precision: --format {FOLDER_FORMAT} is written in fp32, not {precision!r}"
        )
    if not isinstance(network, nn.Module):
        if (Path(network) / names.STATE).is_file() or not (Path(network) / FILE).is_file():
            with open_run(network, changes, progress) as space:
                require_plan(space.folder)
                return export_run(space, out)
        network = load(Path(network))
    if out is None:
        raise PrunerError("export: give out, the folder to write")
    if not isinstance(network, fx.GraphModule):
        raise PrunerError(f"expected a network made by pruner.apply, got {type(network).__name__}")
    return write_folder(network, Path(out), {})


def _export_run(
    run: str | os.PathLike[str],
    form: Format,
    out: str | os.PathLike[str] | None,
    options: WriteOptions,
    changes: Mapping[str, Any] | None,
    progress: ProgressDisplay | None,
) -> Outcome:
    with open_run(run, changes, progress, shared=True) as space:
        require_plan(space.folder)
        file = _choose_file(space, form, out, options.precision)
        needs_data = options.precision == "int8" or bool({"data", "task"} & set(changes or {}))
        if options.precision == "int8" and not space.has_task:
            raise PrunerError("--precision int8 needs calibration samples: give --data DIR")
        step = f"export {form.name} {options.precision}"
        judges = space.has_task and options.precision != "fp32"
        key = _make_key(space, form, options, file, needs_data or judges)
        if (known := _find_export(space, step, key, file)) is not None:
            return known
        space.folder.verify(FILE)
        plain = _open_network(space)
        rows = collect_samples(space, plain) if needs_data else []
        metadata = _describe_run(space, plain, options.precision)
        full = WriteOptions(options.precision, rows, metadata, options.target)
        exported = export_network(
            plain, form, file, full, samples=rows[:_COMPARED_BATCHES],
            threads=space.config.measure.threads,
            judge=(lambda module: _judge(space, module)) if judges else None,
        )  # fmt: skip
        kind = space.task.judge().kind if judges else None
        outcome = summarize_export(exported, kind)
        details = {
            "digests": dict(exported.digests), "text": outcome.text, "data": dict(outcome.data)
        }  # fmt: skip
        space.folder.commit(step, key, lambda scratch: None, details)
        return outcome


def _choose_file(
    space: Workspace, form: Format, out: str | os.PathLike[str] | None, precision: str
) -> Path:
    """Return the file to write: ``RUN/model.onnx``, ``RUN/model-int8.onnx``, or what was given."""
    if out is not None:
        return Path(out)
    label = "" if precision == "fp32" else f"-{precision}"
    return space.folder / f"model{label}{form.suffixes[0]}"


def _make_key(
    space: Workspace, form: Format, options: WriteOptions, file: Path, uses_data: bool
) -> str:
    """Return the digest of all that the file depends on."""
    known = space.folder.read_state()["files"].get(FILE)
    task = space.keys.dense if uses_data else None
    return digest_json(
        [form.name, options.precision, options.target, known, find_versions(), task,
         space.config.measure.threads, _name_in(space, file)]
    )  # fmt: skip


def _name_in(space: Workspace, file: Path) -> str:
    """Return the file's name where it is in the RUN, which may be moved; else its whole path."""
    inside = file.parent.resolve() == space.folder.path.resolve()
    return file.name if inside else str(file.resolve())


def _find_export(space: Workspace, step: str, key: str, file: Path) -> Outcome | None:
    """Return what was said of the file, where it is there as it was written."""
    record = space.folder.find_record(step, key)
    if record is None:
        return None
    for name, digest in record["digests"].items():
        path = file.parent / name
        if not path.is_file() or digest_file(path) != digest:
            return None
    return Outcome(f"{record['text']}\n  it is there already, as it was written", record["data"])


def _open_network(space: Workspace) -> PlainNetwork:
    """Load the cut network with example arguments, without its source where run.json says them."""
    small = load(space.folder.path)
    identity = space.folder.read_state()["identity"]
    known = identity["input"]
    if identity.get("submodule") is None:
        try:
            if any(isinstance(one, str) for one in known):
                example = make_example(small, parse_specs(known))
            else:
                example = make_tensor_example(tuple(known))
            return PlainNetwork.of(small, example.args, example.kwargs)
        except PrunerError:  # its arguments are others, which the model itself knows
            pass
    space.check_identity()
    example = space.find_call()
    return PlainNetwork.of(small, example.args, example.kwargs)


def collect_samples(space: Workspace, network: PlainNetwork) -> list[tuple[Tensor, ...]]:
    """Return what the network is called with on training samples, in batches of its example's.

    Raises:
        PrunerError: The task never calls it with tensors of the example's shapes.
    """
    batch = network.batch
    limit = max(1, CALIBRATION_SAMPLES // batch) * batch
    shapes = [x.shape for x in network.inputs]
    batches = space.data.train(batch, augment=False, seed=space.config.seed, limit=limit)
    found = []
    with space.progress.task("calibration samples") as advance:
        for done, (inputs, _) in enumerate(batches, 1):
            for args, kwargs in space.task.list_calls(network.whole, inputs):
                taken = network.take(args, kwargs)
                if [x.shape for x in taken] == shapes:
                    found.append(taken)
            advance(done, len(batches))
    if not found:
        expected = ", ".join(map(describe_tensor, network.inputs))
        raise PrunerError(
            f"the data give no samples that the network was cut for ({expected}); measure it with "
            "--input of their size"
        )
    return found


def _judge(space: Workspace, module: FileModule) -> float:
    values = evaluate_network(space, module, "evaluate the file")
    return values[space.task.judge().kind.key]


def _describe_network(network: PlainNetwork, precision: str) -> dict[str, str]:
    """Return the metadata of any file: what wrote it, and what it takes."""
    inputs = {k: describe_tensor(x) for k, x in zip(network.input_names, network.inputs)}
    return {
        "versions": json.dumps(find_versions()),
        "precision": precision,
        "inputs": json.dumps(inputs),
    }


def _describe_run(space: Workspace, network: PlainNetwork, precision: str) -> dict[str, str]:
    """Return the metadata of a RUN's file: MODEL, and the SHA-256 of plan.json and the network."""
    identity = space.folder.read_state()["identity"]
    return {
        "model": str(identity["model"]),
        "submodule": ", ".join(read_parts(identity)),
        "plan": digest_file(space.folder.verify(names.PLAN)),
        "network": digest_file(space.folder.verify(FILE)),
        **_describe_network(network, precision),
    }
