"""Scores of single samples against batches of one and activations run by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from pruner.importance.score import score

from ..small import hand_traced, random_batches


@pytest.mark.parametrize("dim", ["stream", "inner"])
@pytest.mark.parametrize("criterion", ["taylor_sample", "fisher"])
def test_criteria_on_samples_are_those_of_batches_of_one(dim, criterion):
    """One sample a batch: the plain gradient of the parameters says the same."""
    net, batches = hand_traced(), random_batches()
    found = score(net, batches, cross_entropy, criterion).total(dim)
    singles = [(x[k : k + 1], y[k : k + 1]) for x, y in batches for k in range(len(y))]
    slopes = np.stack([score(net, [b], cross_entropy, "taylor").total(dim) for b in singles])
    expected = slopes.mean(0) if criterion == "taylor_sample" else (slopes**2).mean(0) / 2
    assert np.allclose(found, expected, rtol=1e-10)


def test_activation_is_the_strength_of_what_consumers_read():
    net, batches = hand_traced(), random_batches()
    found = score(net, batches, None, "activation").total("inner")
    module = net.module
    read = []
    for x, _ in batches:
        stem = torch.relu(module.stem_bn(module.stem(x)))
        read.append(torch.relu(module.bn1(module.conv1(stem))).detach().sum((2, 3)))
    assert np.allclose(found, torch.cat(read).mean(0).numpy())
