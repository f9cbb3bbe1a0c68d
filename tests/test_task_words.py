"""Only tasks know labels: no other module names what one of them is judged by."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1] / "pruner"
WORDS = re.compile(
    r"logits?\b|cross[-_ ]?entrop|accurac|\btop[-_ ]?1\b|classif|class[-_ ]scores\b|num_classes",
    re.I,
)
ROOMS = ("tasks", "data", "demo")
"""Where labels are at home: what they mean, where they are read, and the embedded example."""
EXCEPTIONS = {
    "models/load.py": ("num_classes", "an argument of timm's and torchvision's factories"),
    "models/model_names.py": ("Classif", "a class of transformers, as an example"),
    "structure/dim_kinds.py": ("classif", "Dims are told apart by kind"),
    "structure/dims.py": ("classif", "Dims are told apart by kind"),
    "tuning/evaluate.py": ("accurac", "a former name, which scripts read"),
    "tuning/reporting.py": ("accurac", "former names, which scripts and checkpoints have"),
}
"""Module -> the word that it may say, and why."""


def test_no_other_module_knows_what_labels_are() -> None:
    found = []
    for path in sorted(ROOT.rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix not in (".py", ".j2") or name.split("/")[0] in ROOMS:
            continue
        allowed, _ = EXCEPTIONS.get(name, ("", ""))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found += [f"{name}:{number}: {w}" for w in WORDS.findall(line) if w != allowed]
    assert not found, "\n".join(found)


def test_every_exception_is_one() -> None:
    for name, (word, _) in EXCEPTIONS.items():
        assert word in WORDS.findall((ROOT / name).read_text(encoding="utf-8")), name
