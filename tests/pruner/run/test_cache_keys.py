"""Cache keys: those that RUNs hold already, and what changes which."""

from __future__ import annotations

from typing import Any

import pytest

from pruner import Plan
from pruner.run.cache_keys import CacheKeys
from pruner.run.config import Config

CONTENT: dict[str, Any] = {
    "model": "m", "data": "d", "budgets": ["50%"], "seed": 3, "input": "1x3x8x8",
    "rounds": {"count": 3}, "finetune": {"epochs": 2, "lr": "1e-2", "clip": 1},
    "solve": {"margin": "auto", "time_limit_s": 5}, "measure": {"quick": True},
}  # fmt: skip
# As the code of before the rooms made them.
BEFORE = {
    "measure": "ca552f7e945a689ec024224ec892d158ce4167a43bb3646482add37dd6a583fd",
    "dense": "f35467d0872646a6c0c6388a2305875fde70a3723b9c6144306e53f08fb98086",
    "rotate": "5b509c2e9eb3b7d5b13af784883d70310dd7dffc5c442ce973271883a31ef9d6",
    "score": "58b7baba46a7864b827d365bfd8d0a7de3e869c9af01f7a2cd51eaa32a9b96ab",
    "round": "370033939d11e84373ceaa4dfc687c05f3606ef9e69d12f82159cd199cc7b1ee",
    "solve": "657966ecae86dbb8f531dcb74fdaf71ef66277679044cc60de6408d52a0ef4e0",
    "reference": "20751d36e9d382a368db4012fedd62cb8668b724bcbe3d51ff2f0c044df6a647",
    "finetune": "fb3e22b21c4f3f308a67e512e298c2c21bf4f762792aa2547b89b8ed031cf1fc",
    "bench": "27badc983df1780b60c2b3fa9d3a19a00e46aac798451f0febdca52920faaddf",
}


class StubPlan(Plan):
    """A plan whose file says nothing."""

    def to_json(self) -> str:
        return "{}"


def all_keys(changes: dict[str, Any]) -> dict[str, str]:
    keys = CacheKeys(Config.from_dict(CONTENT).with_changes(changes), lambda: "images")
    steps = ("measure", "dense", "rotate", "score", "solve", "reference")
    return {
        **{step: getattr(keys, step) for step in steps},
        "round": keys.of_round(2, 2.5),
        "finetune": keys.of_finetune(StubPlan({}, {}), "solved"),
        "bench": keys.of_bench(200),
    }


def test_keys_are_those_of_before() -> None:
    assert all_keys({}) == BEFORE


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"measure": {"threads": 2}}, {"measure", "solve"}),
        ({"score": {"images": 7}}, {"rotate", "score", "round", "solve"}),
        ({"score": {"criterion": "taylor"}}, {"score", "round", "solve"}),
        ({"solve": {"trials": 7}}, {"round", "solve"}),
        ({"rounds": {"epochs": 7}}, {"round", "solve"}),
        ({"finetune": {"lr": 0.5}}, {"round", "solve", "reference", "finetune"}),
        ({"finetune": {"epochs": 7}}, {"reference", "finetune"}),
        ({"budgets": ["40%"]}, {"solve"}),
        ({"seed": 4}, {"rotate", "score", "round", "solve", "reference", "finetune"}),
        ({"model": "n", "out": "o"}, set()),
    ],
)
def test_a_setting_changes_the_keys_of_what_depends_on_it(changes, steps: set[str]) -> None:
    assert {step for step, key in all_keys(changes).items() if key != BEFORE[step]} == steps


def test_images_are_not_opened_for_what_does_not_need_them() -> None:
    def refuse() -> str:
        raise AssertionError

    keys = CacheKeys(Config.from_dict({**CONTENT, "data": None}), refuse)
    assert keys.measure == BEFORE["measure"] and keys.score != BEFORE["score"] and keys.solve
