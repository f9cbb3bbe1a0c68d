"""Modes and gradients come back as they were, whatever happens meanwhile."""

from __future__ import annotations

import pytest
from torch import nn

from pruner.graph import evaluation_mode


def test_every_module_has_its_own_mode_again_after_an_error():
    first, second = (nn.Sequential(nn.Linear(2, 2), nn.Dropout()) for _ in range(2))
    first[1].eval()
    second[0].weight.requires_grad_(False)
    with pytest.raises(KeyError), evaluation_mode(first, second, gradients=True):
        assert not any(m.training for m in (*first.modules(), *second.modules()))
        assert second[0].weight.requires_grad
        second.train()
        raise KeyError
    assert [m.training for m in first.modules()] == [True, True, False]
    assert all(m.training for m in second.modules()) and not second[0].weight.requires_grad
