"""Divergence by the outputs' kind, against direct computation."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from pruner.errors import PrunerError
from pruner.tasks import compare_outputs, compare_scores, compare_values


def kl(dense: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """KL(dense || found) of probabilities [n, classes], summed."""
    return (dense * (dense / found).log()).sum()


def test_class_scores_are_compared_by_image_pixel_and_token() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 4, 5).double()
    expected = kl(theirs.softmax(1), ours.softmax(1))
    found = compare_outputs(ours, theirs)
    assert found.count == 4 and found.value == pytest.approx(expected.item())
    assert found.mean == pytest.approx(expected.item() / 4)
    record = compare_outputs(
        {"logits": ours, "hidden": ours}, {"logits": theirs, "hidden": theirs * 9}
    )
    assert record.value == found.value and record.count == 4
    maps = compare_outputs(
        ours.reshape(2, 2, 5).mT[..., None], theirs.reshape(2, 2, 5).mT[..., None]
    )
    tokens = compare_outputs(ours.reshape(2, 2, 5), theirs.reshape(2, 2, 5))
    assert maps.count == tokens.count == 4
    assert maps.value == pytest.approx(expected.item()) == pytest.approx(float(tokens.value))


def test_temperature_keeps_the_gradients_size() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 4, 5).double()
    found = compare_scores(ours, theirs, 3.0)
    assert found.value == pytest.approx(
        9 * kl((theirs / 3).softmax(1), (ours / 3).softmax(1)).item()
    )
    assert compare_scores(theirs, theirs, 3.0).value == pytest.approx(0.0, abs=1e-12)


def test_values_are_compared_relative_to_their_size() -> None:
    torch.manual_seed(0)
    depth, wrong = torch.rand(3, 1, 4, 4) + 1, torch.rand(3, 1, 4, 4)
    expected = functional.mse_loss(wrong, depth) / depth.square().mean()
    found = compare_outputs(wrong, depth)
    assert found.count == 3 and found.mean == pytest.approx(expected.item())
    # One channel is no class: softmax would say that nothing differs.
    assert compare_outputs(1000 * wrong, 1000 * depth).mean == pytest.approx(expected.item())
    nested = compare_outputs(
        {"a": wrong, "b": (depth, torch.arange(3))}, {"a": depth, "b": (depth, torch.arange(3))}
    )
    assert nested.mean == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), r"\[2, 3\] do not compare .* \[2, 4\]"),
        ({"a": torch.zeros(2, 1)}, {"b": torch.zeros(2, 1)}, r"\{a: \[2, 1\]\}"),
        ([torch.zeros(2)], [torch.zeros(2), torch.zeros(1)], "same nesting"),
        (torch.zeros(2, 1).long(), torch.zeros(2, 1).long(), "no floating tensor"),
    ],
)
def test_what_does_not_compare_is_said(ours, theirs, words: str) -> None:
    with pytest.raises(PrunerError, match=words):
        compare_values(ours, theirs)
