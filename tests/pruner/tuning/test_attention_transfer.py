"""Attention transfer: its formula, and that a student learns by it."""

from __future__ import annotations

import pytest
import torch

from pruner import Plan, apply, trace
from pruner.data.image_folder import ImageData, open_images
from pruner.errors import PrunerError
from pruner.tuning.attention_transfer import attention_loss, find_shared_maps, return_values
from pruner.tuning.recipe import Recipe
from pruner.tuning.trainer import finetune

from ..small import Small, image_folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> ImageData:
    return open_images(image_folder(tmp_path_factory.mktemp("images")), 8)


def test_attention_is_compared_where_both_networks_have_a_map():
    """By the formula on hooked values, on networks whose channels differ."""
    torch.manual_seed(0)
    net = trace(Small().eval(), (torch.randn(2, 3, 8, 8),))
    plan = Plan({n: tuple(range(d.size - 1)) for n, d in net.dims.items()}, {})
    small, images = apply(net, plan), torch.randn(5, 3, 8, 8)
    maps = find_shared_maps(small, net.module, images)
    places = {}

    class Spy(torch.fx.Interpreter):
        def run_node(self, n):
            value = super().run_node(n)
            places.setdefault(n.name, []).append(value)
            return value

    with torch.no_grad():
        Spy(small).run(images)
        Spy(net.module).run(images)
        results, ours = return_values(small, tuple(maps))(images)
        _, theirs = return_values(net.module, tuple(maps))(images)
        torch.testing.assert_close(results, small(images))
    assert maps == {"add": 1}  # the last value of 8 x 8 places
    expected = 0.0
    for name in maps:
        q, p = (v.square().sum(1).flatten(1) for v in places[name])
        off = q / q.norm(dim=1, keepdim=True) - p / p.norm(dim=1, keepdim=True)
        expected += off.square().sum(1).mean().item() / len(maps)
    found = attention_loss(ours, theirs, tuple(maps.values()))
    assert found.item() == pytest.approx(expected, rel=1e-5) and expected > 0
    assert attention_loss(ours, ours, tuple(maps.values())).item() == 0
    with pytest.raises(PrunerError, match=r"pruner\.trace"):
        find_shared_maps(Small(), net.module, images)


def test_a_student_learns_where_its_teacher_looks(data):
    torch.manual_seed(0)
    net = trace(Small().eval(), (torch.randn(2, 3, 8, 8),))
    plan = Plan({n: tuple(range(d.size // 2)) for n, d in net.dims.items()}, {})
    images, _ = next(iter(data.test(36)))
    apart = {}
    for weight in (0.0, 20.0):
        small = apply(net, plan)
        maps = find_shared_maps(small, net.module, images)
        recipe = Recipe(batch=12, lr=0.02, distill=0.0, attention=weight, recalibrate=0)
        finetune(small, net.module, data, 6, recipe=recipe)
        with torch.no_grad():
            ours, theirs = (return_values(m, tuple(maps))(images)[1] for m in (small, net.module))
            apart[weight] = attention_loss(ours, theirs, tuple(maps.values())).item()
        assert not any(module.training for module in small.modules())
    assert apart[20.0] < 0.7 * apart[0.0]
