"""The table that rules register in."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import fx

from ...graph import target_name
from ..axis_map import AxisMap, Result

Rule: TypeAlias = Callable[[AxisMap, fx.Node], Result]
RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Return a decorator that registers a rule for ATen operators (names without overload)."""

    def register(function: Rule) -> Rule:
        for name in operators:
            assert name not in RULES, name
            RULES[name] = function
        return function

    return register


def is_pointwise(node: fx.Node) -> bool:
    """Return whether ATen tags a node's operator as pointwise."""
    return torch.Tag.pointwise in getattr(node.target, "tags", ())


def has_rule(target: Any) -> bool:
    """Return whether a rule knows an operator or, of one that writes, its functional twin."""
    tagged = torch.Tag.pointwise in getattr(target, "tags", ())
    return tagged or target_name(target).removesuffix("_") in RULES
