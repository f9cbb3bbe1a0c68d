"""The workspace: one configuration, made once, and refused by name where it is another RUN's."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from pruner.errors import PrunerError
from pruner.problem import Budget
from pruner.run import inspect
from pruner.run.config import Config
from pruner.run.context import Workspace
from pruner.utils import SilentProgress

from ..runs import MODEL, prepare


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(prepare(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    return Config.from_dict({"model": MODEL, "out": "RUN", "budgets": ["60%"]})


def test_what_was_made_is_shared_and_the_configuration_frozen(config: Config) -> None:
    space = Workspace.begin(config)
    assert space.base is space.folder and isinstance(space.progress, SilentProgress)
    with pytest.raises(FrozenInstanceError):
        space.config = config  # type: ignore[misc]
    space.base.write_state(space.make_state())
    other = space.with_budget(Budget.parse("70%"))
    assert other.folder.path == Path("RUN/70") and other.config.budgets == (Budget.parse("70%"),)
    assert space.config == config and other.net is space.net and other.dense is space.dense
    assert space.base.read_state()["budgets"] == ["70"]
    opened = Workspace.open("RUN/70", {"seed": 1})
    assert opened.base.path == Path("RUN") and opened.config.seed == 1
    assert opened.net is not space.net


def test_another_network_is_refused_where_it_is_asked_for(config: Config) -> None:
    space = Workspace.begin(config)
    space.check_identity()  # nothing there yet
    space.base.write_state(space.make_state())
    space.check_identity()
    other = Workspace.begin(replace(config, seed=5))
    assert other.dense.digest != space.dense.digest  # looking at it refuses nothing
    with pytest.raises(PrunerError, match="use another RUN"):
        other.check_identity()


def test_inspect_works_in_the_folder_of_another_run(config: Config, monkeypatch) -> None:
    space = Workspace.begin(config)
    space.base.write_state(space.make_state())
    monkeypatch.chdir("RUN")
    assert "blocks" in inspect(Config.from_dict({"model": "demo:resnet20"})).data
