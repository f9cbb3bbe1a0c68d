"""docs/your_loop.md: every block of it runs by itself, trains, and keeps what it trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

PAGE = Path(__file__).parents[1] / "docs" / "your_loop.md"
NEEDS = {"Plain torch": "torch", "Lightning": "pytorch_lightning", "The Trainer": "transformers"}


def read_blocks() -> dict[str, str]:
    """The code of every section by its title."""
    found = re.findall(r"\n## ([^\n]+)\n.*?```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    return dict(found)


def test_every_section_is_known() -> None:
    assert [any(title.startswith(key) for key in NEEDS) for title in read_blocks()] == [True] * 3


@pytest.mark.parametrize("key", sorted(NEEDS))
def test_a_block_trains_and_saves(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(NEEDS[key])
    monkeypatch.chdir(tmp_path)
    (code,) = (text for title, text in read_blocks().items() if title.startswith(key))
    assert len(code.splitlines()) < 60
    space: dict[str, Any] = {"__name__": "your_loop"}
    exec(code, space)
    small, again = space["small"], space["again"]
    losses = space["losses"] if "losses" in space else space["tuned"].losses
    assert len(losses) >= 6 and all(value == value for value in losses)
    before = space["pruner"].apply(space["net"], space["pruner"].Plan.dense(space["net"]))
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in before.parameters())
    with torch.no_grad():
        given = space.get("example") or space["images"][:2]
        call = (lambda m: m(**given)) if isinstance(given, dict) else (lambda m: m(given))
        pairs = zip(*(pytree.tree_leaves(call(one.eval().cpu())) for one in (small, again)))
        assert all(torch.equal(one, two) for one, two in pairs)
