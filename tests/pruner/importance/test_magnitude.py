"""Scores of the weights alone against norms and distances by numpy."""

from __future__ import annotations

import numpy as np

from pruner.importance.score import score

from ..small import hand_traced


def test_magnitude_and_l2_are_the_norms_of_what_writes_the_index():
    net = hand_traced()
    state = {k: v.numpy() for k, v in net.module.state_dict().items()}
    rows = [
        np.concatenate(
            [state["stem.weight"][i].ravel(), state["conv2.weight"][i].ravel()]
            + [state["conv2.bias"][i : i + 1]]
        )
        for i in range(4)
    ]
    assert np.allclose(
        score(net, None, None, "magnitude").total("stream"), [np.abs(r).sum() for r in rows]
    )
    assert np.allclose(
        score(net, None, None, "l2").total("stream"), [np.linalg.norm(r) for r in rows]
    )


def test_fpgm_is_the_sum_of_distances_between_filters():
    net = hand_traced()
    rows = net.module.conv1.weight.detach().flatten(1).numpy()
    expected = [sum(np.linalg.norm(a - b) for b in rows) for a in rows]
    assert np.allclose(score(net, None, None, "fpgm").total("inner"), expected)


def test_bn_scale_is_the_scale_where_there_is_one_and_the_weights_elsewhere():
    net = hand_traced()
    state = {k: v.numpy() for k, v in net.module.state_dict().items()}
    found = score(net, None, None, "bn_scale")
    assert np.allclose(found.total("inner"), np.abs(state["bn1.weight"]))
    assert np.allclose(found.parts["stream"]["stem"], np.abs(state["stem_bn.weight"]))
