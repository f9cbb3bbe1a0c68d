"""Random axes, and what their positions are by plain recursion."""

from __future__ import annotations

from hypothesis import strategies as st

from pruner.axes.algebra import UNIT, Atom, Sum, concatenate, multiply, resolve_axis


def labels(axis, values):
    """[axis.size] tuples: which index of which atom every position is, by plain recursion."""
    axis = resolve_axis(axis)
    if isinstance(axis, Atom):
        return [((id(axis), i),) for i in range(axis.size)]
    if isinstance(axis, Sum):
        return [label for part in axis.parts for label in labels(part, values)]
    result = [()]
    for factor in axis.factors:
        result = [left + right for left in result for right in labels(factor, values)]
    return result


@st.composite
def expressions(draw, total=None, depth=2):
    """A random axis, optionally of a given size."""
    total = total or draw(st.sampled_from([4, 6, 8, 12, 24]))
    kind = draw(st.sampled_from(["atom", "sum", "product"])) if depth and total > 3 else "atom"
    if kind == "sum":
        left = draw(st.integers(1, total - 1))
        return concatenate(
            [draw(expressions(left, depth - 1)), draw(expressions(total - left, depth - 1))]
        )
    divisors = [d for d in range(2, total) if total % d == 0]
    if kind == "product" and divisors:
        left = draw(st.sampled_from(divisors))
        return multiply(
            [draw(expressions(left, depth - 1)), draw(expressions(total // left, depth - 1))]
        )
    return UNIT if total == 1 else Atom(total)
