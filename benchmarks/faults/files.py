"""Every file of a RUN cut, flipped, emptied, removed and swapped: refused by name, or harmless."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from . import commands
from .cases import Case, Result, judge_refusal
from .commands import Said
from .scene import RUN, Scene, describe_run

IDLE = (".lock", ".edited.lock", "report.html", "frontier.png")
"""Files that nothing is read from."""
VERBS = {
    "measured": ("solve", "trials", "frontier", "tables", "measure"),
    "solved": ("solve", "solve less", "finetune", "report", "compare", "tables", "load", "bench"),
    "traced": ("frontier", "pick", "report"),
    "tuned": ("finetune", "solve", "report", "compare", "export", "load", "bench", "solve less"),
    "exported": ("export", "load"),
    "half measured": ("measure",),
    "half tried": ("trials",),
    "half traced": ("frontier",),
    "half tuned": ("finetune",),
}
"""State -> what is then done with it; states that are half done are continued."""
ENDS = {"solve": "solved", "trials": "tried", "finetune": "tuned"}
ALSO = "solve less"
"""The verb with another budget, whose result depends on table and scores."""


def list_cases(scene: Scene, count: int, seed: int) -> list[Case]:
    """Return so many cases, the kinds of damage in turn."""
    kinds = list(DAMAGES)
    return [
        Case("files", number, f"a file {kinds[number % len(kinds)]}",
             lambda place, number=number: _try_damage(scene, kinds[number % len(kinds)], number,
                                                      seed, place))  # type: ignore[misc]
        for number in range(count)
    ]  # fmt: skip


def _try_damage(scene: Scene, kind: str, number: int, seed: int, place: Path) -> Result:
    dice = random.Random(f"files {seed} {number}")
    state = dice.choice(list(VERBS))
    verb = dice.choice(VERBS[state])
    run = scene.copy(state, place)
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name not in IDLE)
    file = dice.choice(files)
    others = sorted((scene.place(state, "other") / RUN).rglob(file.name))
    if kind == "swapped" and not others:
        others = sorted(p for p in (scene.place(state, "other") / RUN).rglob("*") if p.is_file())
    DAMAGES[kind](file, dice, others)
    what = f"{state}: {file.relative_to(run)} {kind}, then {verb}"
    said = _do(scene, verb, place)
    result = judge_refusal(said, _find_names(file))
    if result is not None:
        return Result(result.held, result.how, f"{what}: {result.detail}")
    wrong = _find_silent_fault(scene, state, verb, place)
    if wrong:
        return Result.fail(f"{what}: {wrong}")
    return Result.survive("harmless", what)


def _find_names(file: Path) -> tuple[str, ...]:
    """Return what a refusal may name: the file, its table, or the checkpoint that it belongs to."""
    names = [file.name]
    if file.name in ("latency.parquet", "latency.json"):
        names += ["latency.parquet", "latency.json"]
    if file.name == "run.json":  # which says of every file whether it is the RUN's
        names += ["plan.json", "model.safetensors", "metrics.json", "importance.safetensors",
                  "frontier.csv", "is a run of"]  # fmt: skip
    return tuple(names)


def _do(scene: Scene, verb: str, place: Path) -> Said:
    asked = scene.commands()
    if verb == "load":
        return commands.call(lambda: _load(place / RUN), place)
    if verb == ALSO:
        return commands.run(asked.solve("60%"), place)
    if verb == "pick":
        return commands.run([*asked.solve()[:2], "--pick", "2", *asked.solve()[4:]], place)
    if verb == "tables":
        return commands.run(["tables", "show", RUN], place)
    if verb == "bench":
        return commands.run(["bench", RUN, "--runs", "5"], place)
    if verb in ("report", "compare"):
        return commands.run([verb, RUN], place)
    return commands.run(asked.of(verb), place)


def _load(run: Path) -> None:
    import pruner

    pruner.load(run)


def _find_silent_fault(scene: Scene, state: str, verb: str, place: Path) -> str:
    """Say what network is in the RUN that nobody asked for; "" where it is ours, or is refused.

    What a step that was done again leaves is that of the same step undisturbed.
    """
    said = commands.call(lambda: _load(place / RUN), place)
    if said.crashed:
        return f"then load: {said.err[-800:]}"
    if said.code == 2:
        return ""
    known = [scene.expected(one)["model.safetensors"] for one in ("solved", "tried", "tuned")]
    if verb in (ALSO, "pick"):
        known += [describe_other_budget(scene, verb)["model.safetensors"]]
    found = describe_run(place / RUN)["model.safetensors"]
    if found not in known:
        return "holds a network of nobody's"
    if verb in ENDS and found not in (scene.expected(ENDS[verb])["model.safetensors"],
                                      scene.expected(state)["model.safetensors"]):  # fmt: skip
        return f"holds another network than {verb} leaves"
    return ""


def describe_other_budget(scene: Scene, verb: str) -> dict[str, str]:
    """Return what the undisturbed RUN holds after another budget, which is tried out once."""
    place = scene.work / "ours" / verb
    if not (place / RUN / "plan.json").is_file():
        scene.copy("traced", place)
        said = _do(scene, verb, place)
        assert said.code == 0, said.err
    return describe_run(place / RUN)


def cut_file(file: Path, dice: random.Random, others: Sequence[Path]) -> None:
    """Leave the beginning of a file."""
    content = file.read_bytes()
    file.write_bytes(content[: dice.randrange(max(len(content), 1))])


def flip_bits(file: Path, dice: random.Random, others: Sequence[Path]) -> None:
    """Flip one bit, or some."""
    content = bytearray(file.read_bytes())
    for _ in range(dice.choice((1, 1, 1, 8))):
        if content:
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    file.write_bytes(bytes(content))


def swap_file(file: Path, dice: random.Random, others: Sequence[Path]) -> None:
    """Put another run's file in its place, of the same name where it has one."""
    if others:
        file.write_bytes(dice.choice(others).read_bytes())


def empty_file(file: Path, dice: random.Random, others: Sequence[Path]) -> None:
    """Leave nothing in a file."""
    file.write_bytes(b"")


def remove_file(file: Path, dice: random.Random, others: Sequence[Path]) -> None:
    """Remove a file."""
    file.unlink()


def repeat_part(file: Path, dice: random.Random, others: Sequence[Path]) -> None:
    """Write a part of a file twice, as an interrupted copy does."""
    content = file.read_bytes()
    begin, end = sorted(dice.randrange(len(content) + 1) for _ in range(2))
    file.write_bytes(content[:end] + content[begin:])


Damage = Callable[[Path, random.Random, Sequence[Path]], None]
DAMAGES: dict[str, Damage] = {
    "truncated": cut_file,
    "flipped": flip_bits,
    "swapped": swap_file,
    "with a part twice": repeat_part,
    "emptied": empty_file,
    "removed": remove_file,
}
