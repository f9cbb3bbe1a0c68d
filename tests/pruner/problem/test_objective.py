"""The objective of one structure, against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import solver
from pruner import Importance, formulate, trace
from pruner.problem import objective_value

from .test_formulate import IMAGE, Rule, random_importance, random_rises


class Branches(nn.Module):
    """Two parallel convolutions: one is a Block and names the Dim of their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 8, 3, padding=1)
        self.thin = nn.Conv2d(3, 8, 1)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(torch.relu(self.thin(x) + self.wide(x)).mean((2, 3)))


def test_a_layer_that_names_a_dim_may_be_a_block_too():
    net = trace(Branches().eval(), IMAGE, step=2)
    assert set(net.dims) == set(net.blocks) == {"wide"}
    parts = random_importance(net, 0).parts
    for importance in (random_rises(net, 0), Importance("random", parts, {"wide": 3.0})):
        answer = solver.solve(formulate(net, Rule(), importance, "100%"))
        assert answer.value == pytest.approx(objective_value(net, importance))
