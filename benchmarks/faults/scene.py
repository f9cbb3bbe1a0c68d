"""The tiny network's RUNs that faults are tried on, and what is expected of each."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.pruner.runs import MODEL, prepare

from . import commands

RUN = "RUN"
SEEDS = {"ours": 3, "other": 4}
"""Two networks of one architecture with other weights: files of the other one look right."""
_READ = ["--images", "16", "--set", "score.batch_size=4"]


@dataclass(frozen=True)
class Commands:
    """The commands of a user, with the absolute path of the data: RUNs are copied about."""

    data: Path
    seed: int

    def measure(self) -> list[str]:
        """Time the table."""
        return ["measure", MODEL, "--out", RUN, "--probes", "5", "--quick", "--library", "none",
                "--seed", str(self.seed)]  # fmt: skip

    def solve(self, budget: str = "70%") -> list[str]:
        """Choose a structure."""
        return ["solve", RUN, "--budget", budget, "--data", str(self.data), "--no-check", *_READ]

    def trials(self) -> list[str]:
        """Choose among structures that are tried out."""
        return [*self.solve(), "--trials", "6", "--set", "solve.trial_steps=2"]

    def frontier(self) -> list[str]:
        """Solve for several budgets."""
        return ["frontier", RUN, "--points", "4", "--data", str(self.data), *_READ]

    def finetune(self) -> list[str]:
        """Tune it."""
        return ["finetune", RUN, "--data", str(self.data), "--epochs", "3", "--batch", "8",
                "--repair", "16", "--set", "finetune.evaluate_every=1"]  # fmt: skip

    def export(self) -> list[str]:
        """Write it for ONNX Runtime."""
        return ["export", RUN, "--format", "onnx"]

    def of(self, verb: str) -> list[str]:
        """Return the command of a verb's name."""
        found: list[str] = getattr(self, verb)()
        return found


@dataclass(frozen=True)
class Scene:
    """Folders below ``work/NAME``: each holds a RUN in some state, of one of two networks."""

    work: Path

    @property
    def data(self) -> Path:
        """The images of both."""
        return self.work / "data"

    def commands(self, name: str = "ours") -> Commands:
        """Return the commands for one of the networks."""
        return Commands(self.data, SEEDS[name])

    def place(self, state: str, name: str = "ours") -> Path:
        """Return the folder of a state."""
        return self.work / name / state

    def expected(self, state: str) -> dict[str, str]:
        """Return what the undisturbed RUN of a state holds (`describe_run`)."""
        return describe_run(self.place(state) / RUN)

    def seconds(self, verb: str) -> float:
        """Return how long a verb took undisturbed."""
        found = json.loads((self.work / "seconds.json").read_text(encoding="utf-8"))
        return float(found[verb])

    def copy(self, state: str, target: Path, name: str = "ours") -> Path:
        """Copy a state's folder, and return its RUN."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.place(state, name), target)
        return target / RUN


STATES = (
    ("measured", None, "measure"),
    ("solved", "measured", "solve"),
    ("tried", "measured", "trials"),
    ("traced", "solved", "frontier"),
    ("tuned", "traced", "finetune"),
    ("exported", "tuned", "export"),
)
"""State, the one before, and the verb that leads to it."""
HALF_DONE = (
    ("half measured", None, "measure", "latency.journal", 3),
    ("half tried", "measured", "trials", "checkpoints/trials-*.txt", 3),
    ("half traced", "solved", "frontier", "checkpoints/frontier*", 2),
    ("half tuned", "traced", "finetune", "checkpoints/*/checkpoint.safetensors", 0),
)
"""State, the one before, the verb that is killed, and the file and lines at which it is."""


def build_scene(work: Path) -> Scene:
    """Make the RUNs that are not there yet, of both networks."""
    scene, seconds = Scene(work), {}
    if (work / "seconds.json").is_file():
        return scene
    if not scene.data.is_dir():
        prepare(work)
    for name in SEEDS:
        asked = scene.commands(name)
        for state, before, verb in STATES:
            place = _begin(scene, name, state, before)
            began = time.monotonic()
            said = commands.run(asked.of(verb), place)
            assert said.code == 0, f"{verb} of {name}: {said.err}"
            seconds[verb] = time.monotonic() - began
        for state, before, verb, pattern, lines in HALF_DONE:
            place = _begin(scene, name, state, before)
            _kill_half_way(asked.of(verb), place, pattern, lines)
    (work / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
    return scene


def _begin(scene: Scene, name: str, state: str, before: str | None) -> Path:
    place = scene.place(state, name)
    shutil.rmtree(place, ignore_errors=True)
    if before is not None:
        shutil.copytree(scene.place(before, name), place)
    else:
        place.mkdir(parents=True)
        shutil.copy(scene.work / "tiny_network.py", place)
    return place


def _kill_half_way(arguments: Sequence[str], place: Path, pattern: str, lines: int) -> None:
    """Kill a command as soon as a file of its RUN has so many lines."""
    running = commands.start(arguments, place)
    while not running.is_over():
        found = list((place / RUN).glob(pattern))
        if found and found[0].read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.002)
    running.kill()
    said = running.wait()
    assert said.code < 0, f"{arguments[0]} was over before {pattern} was there: {said.err}"


def describe_run(run: Path) -> dict[str, str]:
    """Return digests of the plan and the network in a RUN, "" where there is none."""
    found = {}
    for name in ("plan.json", "model.safetensors"):
        path = run / name
        content = path.read_bytes() if path.is_file() else b""
        found[name] = hashlib.sha256(content).hexdigest() if content else ""
    return found
