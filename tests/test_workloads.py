"""Each workload network goes the whole way of a user; faults of others' kinds are named."""

from __future__ import annotations

import pytest

pytest.importorskip("torchvision")
from examples.workloads.examine import examine  # noqa: E402

LEAST = {
    "siamtol": 0.95,
    "point_tracking": 0.95,
    "region_selection": 0.95,
    "mapnet": 0.94,
    "ssd": 0.93,
}
"""The share of the parameters that must be prunable; what is not, is frozen by a reason below."""


@pytest.mark.parametrize("name", sorted(LEAST))
def test_a_workload_is_pruned_the_whole_way(name):
    result = examine(name)
    assert result.difference < 1e-5
    assert result.loaded < 1e-6
    assert result.status == "OPTIMAL"
    assert result.trained == 1
    assert isinstance(result.onnx, float) and result.onnx < 1e-4
    assert result.prunable >= LEAST[name]
    assert all(reason for reason in result.frozen)
