"""Writes a network to a file, runs the file, and compares its answers with torch's."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from latency_tables import LatencyError

from ..errors import PrunerError, first_line
from ..utils import silence_logging
from .agreement import Agreement, compare_batch
from .base import CannotRunError, Format, Run, WriteOptions
from .plain_network import PlainNetwork

_SCRATCH = ".new-"


@dataclass(frozen=True)
class CheckedFile:
    """A file that was written, and what its runtime says of it.

    Attributes:
        file: Where it lies; what belongs to it lies beside it.
        network: As it was written: with a free batch or a fixed one.
        fixed_because: Why the batch is fixed; empty where it is free.
        run: Runs it; None where this machine cannot.
        agreement: With torch's answers; None where it was not run.
        unverified: Why it was not run; empty where it was.
    """

    file: Path
    network: PlainNetwork
    fixed_because: str
    run: Run | None
    agreement: Agreement | None
    unverified: str

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(p.stat().st_size for p in self.file.parent.iterdir() if p.is_file())


@contextlib.contextmanager
def make_scratch(file: Path) -> Iterator[Path]:
    """Yield the file's place in a folder beside it, from which `move_files` takes what was written.

    Raises:
        PrunerError: The folder of the file cannot be written into.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise PrunerError(f"{file} is a folder, expected the name of a file")
        scratch = Path(tempfile.mkdtemp(dir=file.parent, prefix=_SCRATCH))
    except OSError as error:
        raise PrunerError(f"{file} cannot be written: {error.strerror or error}") from error
    try:
        yield scratch / file.name
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def move_files(written: Path, file: Path) -> list[Path]:
    """Move what was written into place, the file itself last, and return where all of it is.

    A reader finds no half of a file, whenever this process is killed.
    """
    others = sorted(path for path in written.parent.iterdir() if path != written)
    moved = []
    for path in (*others, written):
        with open(path, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(path, file.parent / path.name)
        moved.append(file.parent / path.name)
    return moved


def write_checked(
    form: Format,
    network: PlainNetwork,
    options: WriteOptions,
    file: Path,
    samples: Sequence[tuple[Tensor, ...]] = (),
    threads: int = 1,
) -> CheckedFile:
    """Write a network into a folder of its own and compare its answers with torch's.

    The batch is free where network, format and runtime allow it and the answers to another batch
    are right; else it is that of the example.

    Args:
        form: The format.
        network: The network and its example inputs.
        options: Precision, calibration and metadata.
        file: The file, in a folder that holds nothing else.
        samples: Inputs of the example's batch to compare on, besides random ones.
        threads: Threads of the runtime, where it can be told.

    Raises:
        PrunerError: The format cannot hold the network, its runtime refuses it, or the answers of
            its file are wrong.
    """
    reason = "" if form.frees_batch else f"{form.name} files are written so"
    if not reason and not _takes_any_batch(network):
        reason = "the network itself takes no other"
    if not reason:
        try:
            return _write_and_check(form, network, options, file, samples, threads, "")
        except _WrongAnswersError as error:
            reason = str(error)
        except PrunerError:
            raise
        except Exception as error:  # exporters and runtimes raise of many kinds
            reason = first_line(error)
        for path in file.parent.iterdir():
            path.unlink()
    try:
        fixed = network.fix_batch()
        return _write_and_check(form, fixed, options, file, samples, threads, reason)
    except _WrongAnswersError as error:
        raise PrunerError(
            f"--format {form.name} --precision {options.precision}: {error}; nothing was written"
        ) from error
    except (PrunerError, OSError):
        raise
    except LatencyError as error:
        raise PrunerError(f"--format {form.name}: {error}") from error
    except Exception as error:  # as above
        raise PrunerError(
            f"--format {form.name}: the network cannot be written: {first_line(error)}"
        ) from error


class _WrongAnswersError(PrunerError):
    """What the file answers is not what the network answers."""


def _write_and_check(
    form: Format,
    network: PlainNetwork,
    options: WriteOptions,
    file: Path,
    samples: Sequence[tuple[Tensor, ...]],
    threads: int,
    fixed_because: str,
) -> CheckedFile:
    with hold_output():
        form.write(network, options, file)
        try:
            run = form.open(file, threads)
        except CannotRunError as error:
            return CheckedFile(file, network, fixed_because, None, None, str(error))
        sizes = [network.batch] * 2 + ([network.batch + 2] if network.free_batch else [])
        drawn = [draw_inputs(network.inputs, size, seed) for seed, size in enumerate(sizes)]
        found = Agreement()
        for inputs in (*drawn, *samples):
            with torch.no_grad():
                expected = network.module(*inputs)
            expected = [expected] if isinstance(expected, Tensor) else list(expected)
            found = found.join(compare_batch(run(inputs), expected, options.precision))
    if found.fault:
        raise _WrongAnswersError(
            f"{form.name_runtime()} answers otherwise than torch ({found.fault})"
        )
    return CheckedFile(file, network, fixed_because, run, found, "")


def draw_inputs(example: Sequence[Tensor], batch: int, seed: int) -> tuple[Tensor, ...]:
    """Return random inputs of a batch: floating ones normal with the example's mean and spread.

    Others, and what has no batch, are the example's.
    """
    generator = torch.Generator().manual_seed(seed)
    common = next((len(x) for x in example if x.dim()), 1)
    drawn = []
    for x in example:
        if x.dim() and len(x) == common:
            x = x[torch.arange(batch) % common]
        if x.dim() and x.is_floating_point():
            spread = float(x.std()) if x.numel() > 1 else 0.0
            noise = torch.randn(x.shape, generator=generator).to(x.dtype)
            x = noise * (spread or 1.0) + x.mean()
        drawn.append(x)
    return tuple(drawn)


def _takes_any_batch(network: PlainNetwork) -> bool:
    inputs = draw_inputs(network.inputs, network.batch + 2, 0)
    try:
        with torch.no_grad():
            network.module(*inputs)
    except Exception:  # whatever a wrong shape raises
        return False
    return True


@contextlib.contextmanager
def hold_output() -> Iterator[None]:
    """Hold back what exporters print, log and warn of; errors still come as exceptions."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        silence_logging(),
    ):
        warnings.simplefilter("ignore")
        yield
