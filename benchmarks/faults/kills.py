"""SIGKILL at random moments, and then the same command: the same plan, and no sample lost."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from . import commands
from .cases import Case, Result
from .scene import RUN, Scene, describe_run

BEFORE = {"measure": None, "solve": "measured", "trials": "measured", "finetune": "traced",
          "export": "tuned"}  # fmt: skip
AFTER = {"solve": "solved", "trials": "tried", "finetune": "tuned", "export": "tuned"}
MOST_KILLS = 3
SAID = "ends as undisturbed"


def list_cases(scene: Scene, count: int, seed: int) -> list[Case]:
    """Return so many cases, the verbs in turn."""
    verbs = list(BEFORE)
    return [
        Case("kills", number, f"SIGKILL during {verbs[number % len(verbs)]}",
             lambda place, number=number: _try_kill(scene, verbs[number % len(verbs)], number, seed,
                                                    place))  # type: ignore[misc]
        for number in range(count)
    ]  # fmt: skip


def _try_kill(scene: Scene, verb: str, number: int, seed: int, place: Path) -> Result:
    dice = random.Random(f"kills {seed} {number}")
    before, asked = BEFORE[verb], scene.commands().of(verb)
    if before is None:
        place.mkdir(parents=True)
        (place / "tiny_network.py").write_bytes((scene.work / "tiny_network.py").read_bytes())
    else:
        scene.copy(before, place)
    taken: dict[str, str] = {}
    for _ in range(dice.randint(1, MOST_KILLS)):
        running = commands.start(asked, place)
        until = time.monotonic() + dice.random() * scene.seconds(verb)
        while time.monotonic() < until and not running.is_over():
            time.sleep(0.001)
        running.kill()
        said = running.wait()
        if said.code >= 0 and said.code != 0:
            return Result.fail(f"before the kill: {said.err[-500:]}")
        taken |= _read_samples(place / RUN)
    said = commands.run(asked, place)
    if said.crashed or said.code != 0:
        return Result.fail(f"the same command: {said.code}: {said.err[-800:]}")
    if verb == "measure":
        return _check_samples(place / RUN, taken)
    if wrong := _find_difference(scene, verb, place / RUN):
        return Result.fail(wrong)
    left = [str(path.relative_to(place)) for path in place.rglob(".*")
            if path.name not in (".lock", ".edited.lock")]  # fmt: skip
    return Result.fail(f"left behind: {left}") if left else Result.survive(SAID)


def _find_difference(scene: Scene, verb: str, run: Path) -> str:
    """Say what is otherwise than in the undisturbed RUN; "" for nothing."""
    expected = scene.expected(AFTER[verb])
    found = describe_run(run)
    wrong = [name for name in expected if found[name] != expected[name]]
    if verb == "export" and not (run / "model.onnx").is_file():
        wrong.append("model.onnx")
    if verb == "finetune":
        sides = [json.loads((one / "metrics.json").read_text(encoding="utf-8"))["pruned"]
                 for one in (run, scene.place("tuned") / RUN)]  # fmt: skip
        wrong += ["metrics.json"] if sides[0] != sides[1] else []
    return f"otherwise than undisturbed: {', '.join(wrong)}" if wrong else ""


def _read_samples(run: Path) -> dict[str, str]:
    """Return when each sample was taken that a RUN holds so far, by what tells it."""
    journal = run / "latency.journal"
    if not journal.is_file():
        return {}
    text = journal.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()[1:]]
    return {
        json.dumps([row["network"], row["sizes"], row["dropped"], row["attempt"]]): str(
            row["measured_at"]
        )
        for row in rows
    }


def _check_samples(run: Path, taken: dict[str, str]) -> Result:
    from latency_tables import LatencyTable

    table = LatencyTable.load(run)
    if len(table.readings) != 5:
        return Result.fail(f"{len(table.readings)} structures instead of 5")
    final = {
        json.dumps([r.network, dict(r.sizes), list(r.dropped), r.attempt]): r.measured_at
        for r in table.readings
    }
    # A sample that is in the table was taken before the kill, unless noise had it taken once more.
    lost = [key for key, when in final.items() if key in taken and taken[key] != when]
    return Result.fail(f"taken again: {lost}") if lost else Result.survive("no sample lost")
