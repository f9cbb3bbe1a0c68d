"""What holds for all tests."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache_of_fixtures(tmp_path_factory):
    """No test reads or writes the user's cache, nor do fixtures that several tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSPRUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Each test measures anew."""
    monkeypatch.setenv("MSPRUNE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def subnormal_numbers():
    """An engine may leave its thread rounding subnormal numbers to zero: no test begins so."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_flush_denormal(False)
