"""The element-wise base: a user's function, and sums of positions."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from pruner.gates import fold_positions
from pruner.importance.score import score

from ..small import hand_traced, random_batches


def test_a_users_own_function_is_a_criterion():
    net = hand_traced()

    def biggest(name, parameter, gradient):
        assert gradient is not None and gradient.shape == parameter.shape
        return parameter.square()

    found = score(net, random_batches(), cross_entropy, biggest)
    assert found.criterion == "biggest"
    weight = net.module.conv1.weight.detach()
    assert np.allclose(found.total("inner"), weight.square().sum((1, 2, 3)).numpy())


def test_positions_of_nobody_are_left_out_and_shared_ones_add_up():
    values = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    assert fold_positions(values, np.array([1, -1, 0, 1]), 3).tolist() == [[4.0, 9.0, 0.0]]
