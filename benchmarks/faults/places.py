"""A full disk, a RUN that is read-only, two processes in one, a clock that jumps, a RUN moved."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import commands
from .cases import Case, Result, judge_refusal
from .scene import RUN, Scene, describe_run

STEPS = {"measure": (None, None), "solve": ("measured", "solved"), "trials": ("measured", "tried"),
         "finetune": ("traced", "tuned"), "export": ("tuned", "tuned")}  # fmt: skip
"""Verb -> the state before it and the one after."""
ROOMS = (0, 1, 4, 16, 64, 256)
"""Kilobytes that are left on the disk."""
READERS = ("tables show", "compare", "load")
WRITERS = ("solve", "finetune", "export", "report", "bench", "measure")
NOBODY = 65534


def list_cases(scene: Scene, seed: int) -> list[Case]:
    """Return all cases."""
    found: list[tuple[str, Callable[[Path], Result]]] = []
    for verb in STEPS:
        for room in ROOMS:
            found.append((f"disk full during {verb}", _bind(_fill_disk, scene, verb, room)))
            found.append((f"files of a size refused during {verb}",
                          _bind(_limit_files, scene, verb, room)))  # fmt: skip
        for number in range(3):
            found.append((f"two processes: {verb}", _bind(_start_two, scene, verb, number)))
        found.append((f"the clock jumps during {verb}", _bind(_jump_clock, scene, verb, seed)))
    for verb in (*READERS, *WRITERS):
        found.append(("RUN is read-only", _bind(_forbid_writing, scene, verb)))
    found.append(("standard output is full", _bind(_fill_output, scene)))
    for name in ("elsewhere", "with space", "\u00fcml\u00e4ut", "deep/er/still"):
        found.append(("RUN moved between the steps", _bind(_move_run, scene, name)))
    found.append(("report beside a running step", _bind(_read_meanwhile, scene)))
    return [Case("places", number, kind, attempt) for number, (kind, attempt) in enumerate(found)]


def _bind(attempt: Callable[..., Result], *values: object) -> Callable[[Path], Result]:
    return lambda place: attempt(*values, place)


def _begin(scene: Scene, verb: str, place: Path) -> None:
    before, _ = STEPS[verb]
    if before is None:
        place.mkdir(parents=True)
        shutil.copy(scene.work / "tiny_network.py", place)
    else:
        scene.copy(before, place)


def _check_end(scene: Scene, verb: str, run: Path) -> Result:
    """Say whether a RUN is what the undisturbed verb leaves."""
    after = STEPS[verb][1]
    if after is None:
        from latency_tables import LatencyTable

        count = len(LatencyTable.load(run).readings)
        return Result.survive("then ends as undisturbed") if count == 5 else Result.fail(str(count))
    expected, found = scene.expected(after), describe_run(run)
    wrong = [name for name in expected if found[name] != expected[name]]
    return (
        Result.fail(f"otherwise: {wrong}") if wrong else Result.survive("then ends as undisturbed")
    )


def _fill_disk(scene: Scene, verb: str, room: int, place: Path) -> Result:
    """Run on a file system of its own with a little room, then with enough."""
    disk = place / "disk"
    disk.mkdir(parents=True)
    if not _mount(disk, "size=64m"):
        return Result.survive("not tried: no file system can be mounted here")
    try:
        inner = disk / "in"
        _begin(scene, verb, inner)
        used = sum(file.stat().st_blocks * 512 for file in inner.rglob("*"))
        size = (used // 4096 + 8) * 4096 + room * 1024
        subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
        first = judge_refusal(commands.run(scene.commands().of(verb), inner))
        if first is not None and not first.held:
            return first
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        said = commands.run(scene.commands().of(verb), inner)
        if said.code != 0:
            return Result.fail(f"with room again: {said.err[-800:]}")
        return _check_end(scene, verb, inner / RUN)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def _limit_files(scene: Scene, verb: str, room: int, place: Path) -> Result:
    """Let no file grow beyond a size, then let them."""
    _begin(scene, verb, place)
    limit = max(room * 256, 1)
    said = commands.run(
        scene.commands().of(verb), place, setup=lambda: commands.limit_file_size(limit)
    )
    # What it says is written to files, too, and may be cut: only how it ends is looked at.
    if said.code not in (0, 2) and not (said.code == 120 and limit < 4096):
        return Result.fail(f"exit {said.code}: {said.err[-800:]}")
    said = commands.run(scene.commands().of(verb), place)
    if said.code != 0:
        return Result.fail(f"without the limit: {said.err[-800:]}")
    return _check_end(scene, verb, place / RUN)


def _start_two(scene: Scene, verb: str, number: int, place: Path) -> Result:
    """Start a command twice, the second a little later."""
    _begin(scene, verb, place)
    asked = scene.commands().of(verb)
    first = commands.start(asked, place)
    time.sleep((0.0, 0.2, 0.6)[number] * scene.seconds(verb))
    second = commands.start(asked, place)
    results = [judge_refusal(one.wait(), ("another msprune",)) for one in (first, second)]
    for result in results:
        if result is not None and not result.held:
            return result
    if all(results):
        return Result.fail("both were refused")
    return _check_end(scene, verb, place / RUN)


def _jump_clock(scene: Scene, verb: str, seed: int, place: Path) -> Result:
    """Run while the time of day jumps by years at every look."""
    _begin(scene, verb, place)
    setup = lambda: replace_clock(seed)  # noqa: E731
    said = commands.run(scene.commands().of(verb), place, setup)
    if said.code != 0:
        return Result.fail(f"exit {said.code}: {said.err[-800:]}")
    return _check_end(scene, verb, place / RUN)


def replace_clock(seed: int) -> None:
    """Let this process's time of day jump; its steady clock goes on."""
    dice, real = random.Random(seed), time.time
    time.time = lambda: max(0.0, real() + dice.uniform(-3e8, 3e8))
    time.time_ns = lambda: int(1e9 * time.time())

    def jump() -> str:
        year = dice.choice((1999, 2026, 2038, 2060))
        return f"{year}-{dice.randrange(1, 13):02}-01T00:00:00+00:00"

    for name in ("probe_runner", "measure"):
        module: Any = importlib.import_module(f"latency_tables.measurement.{name}")
        module.format_now = jump


def _forbid_writing(scene: Scene, verb: str, place: Path) -> Result:
    """Give a RUN that this user may not write into to a verb that reads, or one that writes."""
    run = scene.copy("tuned", place)
    for path in (place, run, *run.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    setup = _bind_read_only(run)
    try:
        asked = scene.commands()
        if verb == "load":
            said = commands.Running(lambda: _load_as_nobody(run), place).wait()
        else:
            words = {"tables show": ["tables", "show", RUN], "compare": ["compare", RUN],
                     "report": ["report", RUN], "bench": ["bench", RUN, "--runs", "5"],
                     "solve": asked.solve("60%")}  # fmt: skip
            said = commands.run(words.get(verb) or asked.of(verb), place, setup)
        result = judge_refusal(said)
        if result is not None and verb in READERS:
            return Result.fail(f"{verb} only reads: {said.err[-500:]}")
        if result is not None and not result.held:
            return result
        if describe_run(run) != scene.expected("tuned"):
            return Result.fail(f"{verb} wrote")
        return result or Result.survive("read" if verb in READERS else "nothing to write")
    finally:
        for path in (place, run, *run.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


def _bind_read_only(run: Path) -> Callable[[], None]:
    """Return what makes a new process one that cannot write there: root gives up its rights."""

    def drop_rights() -> None:
        if os.getuid() == 0:
            os.environ["HOME"] = "/tmp"
            os.setgid(NOBODY)
            os.setuid(NOBODY)

    return drop_rights


def _load_as_nobody(run: Path) -> int:
    import pruner

    _bind_read_only(run)()
    pruner.load(run)
    return 0


def _fill_output(scene: Scene, place: Path) -> Result:
    """Print to a device that is full."""
    run = scene.copy("tuned", place)

    def close_output() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)

    said = commands.run(["compare", str(run)], place, close_output)
    if "Traceback" in said.err or said.code not in (2, 120):
        return Result.fail(f"exit {said.code}: {said.err[-800:]}")
    return Result.survive("refused in one line", said.err.strip())


def _move_run(scene: Scene, name: str, place: Path) -> Result:
    """Move a RUN before every step."""
    _begin(scene, "solve", place)
    asked, where = scene.commands(), RUN
    for number, verb in enumerate(("solve", "finetune", "export")):
        target = f"{name}-{number}"
        (place / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(place / where, place / target)
        where = target
        said = commands.run([target if word == RUN else word for word in asked.of(verb)], place)
        if said.code != 0:
            return Result.fail(f"{verb}: {said.err[-800:]}")
    shutil.move(place / where, place / RUN)
    said = commands.run(asked.export(), place)
    if "there already" not in said.out:
        return Result.fail(f"a moved file is written again: {said.out}{said.err[-300:]}")
    return _check_end(scene, "finetune", place / RUN)


def _read_meanwhile(scene: Scene, place: Path) -> Result:
    """Look at a RUN again and again while steps write it."""
    scene.copy("measured", place)
    asked = scene.commands()
    for verb in ("solve", "finetune"):
        running = commands.start(asked.of(verb), place)
        while not running.is_over():
            for words in (["report", RUN], ["compare", RUN], ["tables", "show", RUN]):
                result = judge_refusal(commands.run(words, place))
                if result is not None and not result.held:
                    running.kill()
                    running.wait()
                    return result
        said = running.wait()
        if said.code != 0:
            return Result.fail(f"{verb}: {said.err[-800:]}")
    return _check_end(scene, "finetune", place / RUN)


def _mount(place: Path, options: str) -> bool:
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "faults", str(place)], capture_output=True
        )
    except OSError:
        return False
    return done.returncode == 0
