"""Depth: losses and metrics against direct computation over what is known."""

from __future__ import annotations

import math

import pytest
import torch

from pruner.errors import PrunerError
from pruner.tasks import Depth

NAMES = ("abs_rel", "rmse", "mae", "log_rmse", "delta1", "delta2", "psnr", "epe")


def draw() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    rng = torch.Generator().manual_seed(2)
    wanted = 0.5 + torch.rand(3, 2, 4, 4, generator=rng)
    valid = torch.rand(3, 1, 4, 4, generator=rng) < 0.7
    noise = 0.2 * torch.randn(3, 2, 4, 4, generator=rng)
    return (wanted + noise).clamp_min(0.1), {
        "map": torch.where(valid, wanted, torch.zeros(())), "valid": valid,
    }  # fmt: skip


def test_losses_are_means_over_what_is_known() -> None:
    found, targets = draw()
    known = targets["valid"].expand_as(found)
    a, b = found[known], targets["map"][known]
    expected = {
        "l1": (a - b).abs().mean(), "l2": (a - b).square().mean(),
        "log_l1": (a.log() - b.log()).abs().mean(),
        "huber": torch.nn.functional.huber_loss(a, b),
    }  # fmt: skip
    images = []
    for k in range(3):
        d = (found[k][known[k]].log() - targets["map"][k][known[k]].log()).double()
        images.append(d.square().mean() - d.mean().square() / 2)
    expected["silog"] = torch.stack(images).mean()
    for name, value in expected.items():
        task = Depth(loss=name)
        assert task.mean_loss(found, targets).item() == pytest.approx(value.item(), rel=1e-5), name
    nothing = {**targets, "valid": torch.zeros_like(targets["valid"])}
    for name in expected:
        outputs = found.clone().requires_grad_()
        loss = Depth(loss=name).mean_loss(outputs, nothing)
        loss.backward()
        assert loss == 0 and not outputs.grad.any(), name


def test_metrics_are_over_batches_and_processes() -> None:
    found, targets = draw()
    known = targets["valid"].expand_as(found)
    a, b = found[known].double(), targets["map"][known].double()
    ratio = torch.maximum(a / b, b / a)
    squares = [((found[k] - targets["map"][k])[known[k]] ** 2).mean() for k in range(3)]
    points = (found - targets["map"]).norm(dim=1)[targets["valid"][:, 0]]
    expected = [
        ((a - b).abs() / b).mean(), (a - b).square().mean().sqrt(), (a - b).abs().mean(),
        (a.log() - b.log()).square().mean().sqrt(), (ratio < 1.25).double().mean(),
        (ratio < 1.25**2).double().mean(),
        torch.tensor([10 * math.log10(4 / s) for s in squares]).mean(), points.mean(),
    ]  # fmt: skip
    task = Depth(metric=NAMES, peak=2.0, unit="m")
    whole, parts = task.metric(), [task.metric(), task.metric()]
    for metric, rows in zip(parts, (slice(1), slice(1, 3)), strict=True):
        metric.update(found[rows], {k: v[rows] for k, v in targets.items()})
        whole.merge(metric.state())
    values = whole.compute_all()
    assert [k.name for k in values][:2] == ["relative error", "RMSE"]
    assert [*values.values()] == pytest.approx([float(x) for x in expected], rel=1e-4)
    assert [k.unit for k in values][1:3] == ["m", "m"]
    assert whole.kind.key == "relative_error" and not whole.kind.higher_is_better


def test_what_the_network_answers_with() -> None:
    found, targets = draw()
    for answers, outputs in (("logarithms", found.log()), ("inverses", 1 / found)):
        task = Depth(answers=answers)
        plain = Depth().mean_loss(found, targets)
        assert task.mean_loss(outputs, targets).item() == pytest.approx(plain.item(), rel=1e-4)
    logs = Depth(answers="logarithms")
    far = logs.divergence(found.log(), 2 + found.log())
    assert far.mean == pytest.approx(4.0, rel=1e-4) and far.count == 3
    half = Depth().mean_loss(found[..., ::2, ::2], targets)  # enlarged to the maps
    assert half.isfinite()
    one = Depth(output="far").read({"seg": found, "far": found[:, 0]})
    assert one.shape == (3, 1, 4, 4) and Depth(output=1).read((0, found)) is found
    with pytest.raises(PrunerError, match="expected one map"):
        Depth().read({"seg": found, "far": found})
    with pytest.raises(PrunerError, match="no output 'near'"):
        Depth(output="near").read({"far": found})


def test_targets_that_do_not_fit_are_said() -> None:
    found, targets = draw()
    whole = {**targets, "valid": torch.ones_like(targets["valid"])}
    for task, wrong, words in (
        (Depth(), targets["map"], "are no maps"),
        (Depth(), {**targets, "map": targets["map"][:, :1]}, "do not fit"),
        (Depth(), {**targets, "valid": targets["valid"][:, 0]}, "valid is"),
        (Depth(), whole, "maps reach 0, but abs_rel"),
        (Depth(metric=("mae",), answers="inverses"), whole, "but inverses"),
    ):
        with pytest.raises(PrunerError, match=words):
            task.check(found, wrong)
    Depth(metric=("rmse",)).check(found, whole)
    with pytest.raises(PrunerError, match="metric"):
        Depth(metric=("abs",))
    with pytest.raises(PrunerError, match="loss: expected"):
        Depth(loss="l3")
