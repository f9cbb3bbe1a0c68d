"""Names that a RUN may hold: the user's own, and no function of a library."""

from __future__ import annotations

import configparser
import re
from importlib import metadata

import pytest

from pruner.errors import PrunerError
from pruner.utils import import_object
from pruner.utils.importing import _NEEDED

from ..runs import ROOT

USER = """
import functools, os, subprocess
from torch import nn
from torch.utils.data import TensorDataset


class Net(nn.Module):
    pass


make = functools.partial(Net)
start = functools.partial(os.system, "true")
shell = os.system
instance = Net()
"""


@pytest.mark.parametrize(
    "name",
    [
        "os:system", "subprocess:run", "builtins:eval", "posix:system", "importlib:import_module",
        "os:path.join", "torch:load", "torch.hub:load", "numpy:load", "pandas:read_pickle",
        "torch.package:PackageImporter", "pruner.utils.importing:os.system",
        "pruner.utils.importing:importlib.import_module", "own_code:os.system", "own_code:shell",
        "own_code:start", "own_code:subprocess.run", "torch.serialization:load",
    ],
)  # fmt: skip
def test_functions_of_libraries_are_refused(name, tmp_path, monkeypatch):
    (tmp_path / "own_code.py").write_text(USER)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PrunerError, match="which makes none"):
        import_object(name, "model")


def test_what_starts_when_it_is_imported_is_not(monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda *_: pytest.fail("it was imported"))
    with pytest.raises(PrunerError, match="Python's own library"):
        import_object("antigravity:webbrowser.open", "data")


@pytest.mark.parametrize("name", ["Net", "make", "instance", "TensorDataset", "nn.Linear"])
def test_networks_and_data_sets_may_be_named(name, tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(USER)
    monkeypatch.chdir(tmp_path)
    assert import_object(f"own_nets:{name}", "model") is not None


def test_a_module_of_the_users_may_have_the_name_of_one_of_pythons(tmp_path, monkeypatch):
    (tmp_path / "this.py").write_text(USER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "this", raising=False)
    assert import_object("this:Net", "model").__name__ == "Net"


def test_all_packages_that_are_needed_are_known() -> None:
    """What setup.cfg requires, by the names that it is imported by."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].split()
    projects = {re.split(r"[<>=!~;\[]", line)[0].lower().replace("_", "-") for line in lines}
    found: dict[str, set[str]] = {}
    for top, owners in metadata.packages_distributions().items():
        for owner in {one.lower().replace("_", "-") for one in owners} & projects:
            found.setdefault(owner, set()).add(top)
    assert set(found) == projects
    assert [owner for owner, tops in found.items() if not tops & _NEEDED] == []
