"""export_network: a file written, checked, timed and, where a judge is given, judged."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import latency_tables
from latency_tables import Timing

from ..errors import PrunerError
from ..utils import digest_file
from .agreement import Agreement
from .base import Format, WriteOptions
from .file_module import FileModule
from .plain_network import PlainNetwork
from .write import CheckedFile, hold_output, make_scratch, move_files, write_checked

Judge = Callable[[FileModule], float]
"""A Task's metric of a network on its test samples."""
FULL = "fp32"


@dataclass(frozen=True)
class FileFigures:
    """What was found out of one file.

    Attributes:
        size_bytes: Its size, with what belongs to it.
        latency: Of the example's batch; None where it was not run.
        value: The task's metric; None where nobody judged it.
    """

    size_bytes: int
    latency: Timing | None = None
    value: float | None = None


@dataclass(frozen=True)
class ExportedFile:
    """A network in another runtime's file.

    Attributes:
        file: Where it is.
        digests: Name -> SHA-256 of it and of what belongs to it, in the same folder.
        form, precision: What it is.
        batch: The example's batch, which is also the file's where fixed_because says why.
        fixed_because: Empty where the file takes any batch.
        runtime: What ran it, with its version.
        threads: Threads that it was given.
        agreement: With torch's answers; None where it was not run, and unverified says why.
        figures: Of this file.
        full: Of the fp32 file, timed in turn with it; None where this is that.
    """

    file: Path
    digests: Mapping[str, str]
    form: str
    precision: str
    batch: int
    fixed_because: str
    runtime: str
    threads: int
    agreement: Agreement | None
    unverified: str
    figures: FileFigures
    full: FileFigures | None = None


def export_network(
    network: PlainNetwork,
    form: Format,
    file: Path,
    options: WriteOptions,
    *,
    samples: Sequence[tuple[Tensor, ...]] = (),
    threads: int = 1,
    judge: Judge | None = None,
) -> ExportedFile:
    """Write a network to a file, whole or not at all, and find out what it is worth.

    A file of less than fp32 is timed in turn with one of fp32, which is not kept, and judged beside
    it.

    Args:
        network: The network and its example inputs.
        form: The format.
        file: The file; its name ends as the format's files do.
        options: Precision, calibration, metadata, target.
        samples: Inputs to compare answers on, besides random ones.
        threads: Threads of the runtime, where it can be told.
        judge: Judges files of less than fp32.

    Raises:
        PrunerError: The name ends otherwise, int8 has no calibration samples, the file cannot be
            written, the format cannot hold the network, or the answers are wrong.
    """
    if not file.name.endswith(form.suffixes):
        known = " or ".join(form.suffixes)
        raise PrunerError(f"--out: a file of --format {form.name} ends in {known}, not {file.name}")
    if options.precision == "int8" and not options.calibration:
        raise PrunerError(
            "--precision int8 needs calibration samples: give --data DIR, in Python calibration"
        )
    with make_scratch(file) as place, _torch_threads(threads):
        checked = write_checked(form, network, options, place, samples, threads)
        figures, full = FileFigures(checked.size_bytes), None
        if checked.run is not None and options.precision == FULL:
            (figures,) = _find_figures([checked], threads, None)
        elif checked.run is not None:
            with make_scratch(place) as beside:
                more = replace(options, precision=FULL)
                other = write_checked(form, network, more, beside, (), threads)
                figures, full = _find_figures([checked, other], threads, judge)
        moved = move_files(place, file)
    return ExportedFile(
        file, {path.name: digest_file(path) for path in moved}, form.name, options.precision,
        network.batch, checked.fixed_because, "" if checked.run is None else form.name_runtime(),
        threads, checked.agreement, checked.unverified, figures, full,
    )  # fmt: skip


def _find_figures(
    files: Sequence[CheckedFile], threads: int, judge: Judge | None
) -> list[FileFigures]:
    """Time files that can be run in turn, and judge them."""

    def make_call(one: CheckedFile) -> Callable[[], Any]:
        run = one.run
        assert run is not None
        return lambda: run(one.network.inputs)

    with hold_output():
        calls = {str(number): make_call(one) for number, one in enumerate(files)}
        timings = latency_tables.time_calls(calls, threads)
    found = []
    for number, one in enumerate(files):
        assert one.run is not None
        value = None if judge is None else judge(FileModule(one.run, one.network))
        found.append(FileFigures(one.size_bytes, timings[str(number)], value))
    return found


@contextlib.contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
