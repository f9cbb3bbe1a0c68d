"""How far a file's outputs are from torch's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ALLOWED = {"fp32": 1e-3, "fp16": 0.25}
"""Share of the outputs' spread that they may be off by: beyond it the file does not compute the
network. Of int8 the metric is what tells."""
_ROUNDING = {"fp32": 1e-5, "fp16": 1e-2}
_ALLOWED_SHARE = 0.02  # of integers, which near ties may change


@dataclass(frozen=True)
class Agreement:
    """The largest differences between outputs of a file and of torch, over some batches.

    Attributes:
        absolute: The largest difference of floating outputs.
        relative: The same as a share of the spread, largest minus smallest, of the output that it
            is of.
        changed: The largest share of an output of integers or truth values that differs.
        batches: How many batches were compared.
        fault: What cannot be rounding; empty where all is well.
    """

    absolute: float = 0.0
    relative: float = 0.0
    changed: float = 0.0
    batches: int = 0
    fault: str = ""

    def join(self, other: Agreement) -> Agreement:
        """Return what holds for the batches of both."""
        return Agreement(
            max(self.absolute, other.absolute),
            max(self.relative, other.relative),
            max(self.changed, other.changed),
            self.batches + other.batches,
            self.fault or other.fault,
        )


def compare_batch(
    got: Sequence[Tensor], expected: Sequence[Tensor], precision: str = "fp32"
) -> Agreement:
    """Compare all outputs of one batch; what is not finite must be so on both sides."""
    if len(got) != len(expected):
        return Agreement(batches=1, fault=f"{len(got)} outputs, torch has {len(expected)}")
    found = Agreement(batches=1)
    for number, (ours, theirs) in enumerate(zip(got, expected)):
        one = _compare_output(ours.detach().cpu(), theirs.detach().cpu(), precision)
        if one.fault:
            one = Agreement(
                one.absolute, one.relative, one.changed, 0, f"output {number}: {one.fault}"
            )
        found = found.join(one)
    return found


def _compare_output(got: Tensor, expected: Tensor, precision: str) -> Agreement:
    if got.shape != expected.shape:
        return Agreement(fault=f"shape {list(got.shape)}, torch has {list(expected.shape)}")
    if not expected.numel():
        return Agreement()
    if not expected.is_floating_point():
        share = float((got.to(expected.dtype) != expected).double().mean())
        fault = f"{share:.1%} of its values differ" if share > _ALLOWED_SHARE else ""
        return Agreement(changed=share, fault=fault if precision != "int8" else "")
    got, expected = got.double(), expected.double()
    finite = expected.isfinite()
    if not torch.equal(got.isfinite(), finite):
        return Agreement(math.inf, math.inf, fault="not finite where torch's is, or the reverse")
    if not bool(finite.any()):
        return Agreement()
    numbers = expected[finite]
    off = float((got[finite] - numbers).abs().max())
    spread, largest = float(numbers.max() - numbers.min()), float(numbers.abs().max())
    relative = off / (spread or largest or 1.0)
    allowed = ALLOWED.get(precision, math.inf) * spread + _ROUNDING.get(precision, 0.0) * largest
    fault = f"off by {off:.2g}, {relative:.1%} of its spread" if off > allowed else ""
    return Agreement(off, relative, fault=fault)
