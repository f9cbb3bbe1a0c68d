"""A structure and the choice of it say the same: encoded and decoded, each is as it was."""

from __future__ import annotations

import torch

from pruner import Plan, trace
from pruner.structure import (
    decode_choice,
    encode_choice,
    keep_variable,
    size_variable,
    sum_variable,
)

from ..networks import Residual

IMAGE = (torch.zeros(2, 3, 8, 8),)


def test_the_names_of_the_variables():
    assert size_variable("stem") == "size:stem"
    assert keep_variable("a2") == "keep:a2"
    assert sum_variable(0) == "sum:0"


def test_decoding_undoes_encoding():
    net = trace(Residual(), IMAGE)
    for seed in range(5):
        plan = Plan.random(net, 0.5, seed, drop_blocks=0.5)
        choice = encode_choice(net, plan.sizes(), plan.dropped_blocks())
        assert decode_choice(net, {**choice, sum_variable(0): 1}) == (
            plan.sizes(),
            plan.dropped_blocks(),
        )


def test_what_is_not_named_stays_whole():
    net = trace(Residual(), IMAGE)
    dense = Plan.dense(net)
    assert decode_choice(net, encode_choice(net)) == (dense.sizes(), ())
    (first, *_) = net.blocks
    assert decode_choice(net, encode_choice(net, dropped=[first])) == (dense.sizes(), (first,))
