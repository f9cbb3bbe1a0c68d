"""LinearForm: an operator that is linear in its weight, as rows of what it reads times a matrix.

Whatever the operator is called, of every group g and of every row r (a position of a sample):

    y[g, r, o] = sum over i of x[g, r, i] * weight[g, i, o] + bias[g, o]

A contraction's rows are what the einsum keeps of the value; a convolution's are the patches that
its kernel meets, with zeros where the kernel meets no position.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class LinearForm(ABC):
    """How an operator's value, weight and result are rows and matrices.

    Attributes:
        groups: Parts of the channels, each with a matrix of its own.
    """

    groups: int

    @property
    def sums_one_axis(self) -> bool:
        """Whether inputs and outputs are one axis each, beside a kernel's."""
        return True

    @abstractmethod
    def arrange(self, weight: Tensor) -> Tensor:
        """Return the weight as matrices [groups, inputs, outputs]."""

    @abstractmethod
    def restore(self, matrices: Tensor, shape: Sequence[int]) -> Tensor:
        """Return matrices [groups, inputs, outputs] as a weight of this shape."""

    @abstractmethod
    def count_positions(self, y: Tensor) -> int:
        """Return the number of positions in every sample of a result."""

    @abstractmethod
    def sample_inputs(self, x: Tensor, y_shape: Sequence[int], at: Tensor) -> Tensor:
        """Return what is read of a value: [samples, positions, groups * inputs in any shape].

        Args:
            x: What the operator reads.
            y_shape: Of its result.
            at: Numbers of positions.
        """

    @abstractmethod
    def sample_outputs(self, y: Tensor, at: Tensor) -> Tensor:
        """Return a result at these positions: [samples, positions, groups * outputs]."""

    @property
    @abstractmethod
    def channel_axes(self) -> tuple[int, ...]:
        """The axes of the result that groups and outputs stand in, in that order."""

    @property
    @abstractmethod
    def input_axis(self) -> int:
        """The first axis of the value that is summed over, beside a kernel's."""

    def takes_norm(self, rank: int) -> bool:
        """Whether a batch norm behind a result of so many axes scales the outputs."""
        return self.channel_axes == (1,) and rank > 1


@dataclass(frozen=True)
class Contraction(LinearForm):
    """An einsum of a value and a weight: a linear layer, a product of matrices, one for each head.

    Attributes:
        value: A letter for every axis of the value.
        weight: Those of the weight.
        result: Those of the result.
        groups: Product of the sizes of the letters that stand in all three.
    """

    value: str
    weight: str
    result: str
    groups: int = 1

    @classmethod
    def build(
        cls, value: str, weight: str, result: str, shape: Sequence[int]
    ) -> Contraction | None:
        """Return the form of an einsum with a weight of this shape; None where it has none.

        A letter that stands twice in a term, or in the weight alone, is no product of matrices.
        """
        if any(len(set(term)) < len(term) for term in (value, weight, result)):
            return None
        if any(letter not in value + result for letter in weight):
            return None
        if any(letter not in value + weight for letter in result):
            return None
        sizes = dict(zip(weight, shape, strict=True))
        return cls(value, weight, result, math.prod(sizes[x] for x in weight if x in value + result
                                                    and x in value and x in result))  # fmt: skip

    @property
    def _kinds(self) -> tuple[list[str], list[str], list[str], list[str]]:
        """The letters of rows, groups, inputs and outputs."""
        rows = [x for x in self.result if x not in self.weight]
        groups = [x for x in self.result if x in self.weight and x in self.value]
        inputs = [x for x in self.value if x in self.weight and x not in self.result]
        outputs = [x for x in self.result if x in self.weight and x not in self.value]
        return rows, groups, inputs, outputs

    @property
    def channel_axes(self) -> tuple[int, ...]:
        """The axes of the result that groups and outputs stand in, in that order."""
        _, groups, _, outputs = self._kinds
        return tuple(map(self.result.index, groups + outputs))

    @property
    def input_axis(self) -> int:
        """The first axis of the value that is summed over."""
        return self.value.index(self._kinds[2][0])

    @property
    def sums_one_axis(self) -> bool:
        """Whether one axis of the value is summed over, and one of the result is written."""
        return [len(kind) for kind in self._kinds[1:]] == [0, 1, 1]

    def arrange(self, weight: Tensor) -> Tensor:
        """Return the weight as matrices [groups, inputs, outputs]."""
        _, *kinds = self._kinds
        sizes = dict(zip(self.weight, weight.shape, strict=True))
        order = [self.weight.index(letter) for kind in kinds for letter in kind]
        shape = [math.prod(sizes[letter] for letter in kind) for kind in kinds]
        return weight.permute(order).reshape(shape)

    def restore(self, matrices: Tensor, shape: Sequence[int]) -> Tensor:
        """Return matrices [groups, inputs, outputs] as a weight of this shape."""
        letters = [letter for kind in self._kinds[1:] for letter in kind]
        sizes = dict(zip(self.weight, shape, strict=True))
        spread = matrices.reshape([sizes[letter] for letter in letters])
        return spread.permute([letters.index(letter) for letter in self.weight])

    def count_positions(self, y: Tensor) -> int:
        """Return the number of positions in every sample of a result."""
        rows = self._kinds[0]
        return math.prod(y.shape[self.result.index(letter)] for letter in rows[1:])

    def sample_inputs(self, x: Tensor, y_shape: Sequence[int], at: Tensor) -> Tensor:
        """Return what is read of a value: [samples, positions, groups, inputs]."""
        rows, groups, inputs, _ = self._kinds
        alone = [k for k, x in enumerate(self.value) if x not in self.weight + self.result]
        letters = "".join(x for x in self.value if x in self.weight + self.result)
        found = _order_axes(x.sum(alone) if alone else x, letters, (rows, groups, inputs))
        return found[:, at]

    def sample_outputs(self, y: Tensor, at: Tensor) -> Tensor:
        """Return a result at these positions: [samples, positions, groups * outputs]."""
        rows, groups, _, outputs = self._kinds
        return _order_axes(y, self.result, (rows, groups, outputs))[:, at].flatten(2)


def _order_axes(x: Tensor, letters: str, kinds: tuple[list[str], list[str], list[str]]) -> Tensor:
    """Return [samples, positions, groups, channels] of a tensor with these letters."""
    rows, groups, channels = kinds
    sizes = dict(zip(letters, x.shape, strict=True))
    count = [math.prod(sizes[letter] for letter in kind) for kind in (groups, channels)]
    samples = sizes[rows[0]] if rows else 1
    positions = math.prod(sizes[letter] for letter in rows[1:])
    order = [letters.index(letter) for letter in (*rows, *groups, *channels)]
    return x.permute(order).reshape(samples, positions, *count)


@dataclass(frozen=True)
class Patches(LinearForm):
    """A convolution over any number of axes, transposed or not, in any number of groups.

    Attributes:
        groups: Of channels.
        kernel: Sizes of the kernel.
        stride: By axis.
        padding: In front of each axis.
        dilation: By axis.
        transposed: Whether the weight is [in, out / groups, *kernel].
    """

    groups: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool = False

    @property
    def channel_axes(self) -> tuple[int, ...]:
        """The axis of the channels."""
        return (1,)

    @property
    def input_axis(self) -> int:
        """The axis of the channels."""
        return 1

    def takes_norm(self, rank: int) -> bool:
        """Whether a batch norm behind a result of so many axes scales the outputs."""
        return rank == len(self.kernel) + 2

    def arrange(self, weight: Tensor) -> Tensor:
        """Return the weight as matrices [groups, inputs * kernel, outputs]."""
        if not self.transposed:
            size = weight[0].numel()
            return weight.reshape(self.groups, len(weight) // self.groups, size).mT
        split = weight.reshape(self.groups, len(weight) // self.groups, weight.shape[1], -1)
        return split.transpose(2, 3).flatten(1, 2)

    def restore(self, matrices: Tensor, shape: Sequence[int]) -> Tensor:
        """Return matrices [groups, inputs * kernel, outputs] as a weight of this shape."""
        if not self.transposed:
            return matrices.mT.reshape(*shape)
        split = matrices.reshape(self.groups, shape[0] // self.groups, -1, shape[1])
        return split.transpose(2, 3).reshape(*shape)

    def count_positions(self, y: Tensor) -> int:
        """Return the number of positions in a map."""
        return math.prod(y.shape[-len(self.kernel) :])

    def sample_inputs(self, x: Tensor, y_shape: Sequence[int], at: Tensor) -> Tensor:
        """Return the patches of a value: [samples, positions, channels, kernel]."""
        rank = len(self.kernel)
        x = x.reshape(-1, *x.shape[-rank - 1 :])
        where = torch.zeros(len(at), 1, dtype=torch.long, device=x.device)
        inside = torch.ones_like(where, dtype=torch.bool)
        rest = at
        steps = []
        for axis in reversed(range(rank)):
            steps.append(rest % y_shape[axis - rank])
            rest = rest // y_shape[axis - rank]
        for axis, step in enumerate(reversed(steps)):
            place, met = self._find_places(step, axis, x.shape[2 + axis])
            where = (where[:, :, None] * x.shape[2 + axis] + place[:, None]).flatten(1)
            inside = (inside[:, :, None] & met[:, None]).flatten(1)
        found = x.flatten(2).index_select(2, where.flatten())
        if not inside.all():
            found = found.masked_fill(~inside.flatten(), 0.0)
        return found.reshape(len(x), x.shape[1], len(at), -1).transpose(1, 2)

    def _find_places(self, step: Tensor, axis: int, size: int) -> tuple[Tensor, Tensor]:
        """Return where the kernel meets an axis at these positions, and whether it does.

        Both are [positions, kernel]; a place outside is 0.
        """
        reach = torch.arange(self.kernel[axis], device=step.device) * self.dilation[axis]
        stride, pad = self.stride[axis], self.padding[axis]
        if self.transposed:
            place = step[:, None] + pad - reach
            met = place % stride == 0
            place = place.div(stride, rounding_mode="floor")
        else:
            place = step[:, None] * stride - pad + reach
            met = torch.ones_like(place, dtype=torch.bool)
        met = met & (place >= 0) & (place < size)
        return place.masked_fill(~met, 0), met

    def sample_outputs(self, y: Tensor, at: Tensor) -> Tensor:
        """Return a map at these positions: [samples, positions, channels]."""
        y = y.reshape(-1, *y.shape[-len(self.kernel) - 1 :])
        return y.flatten(2).index_select(2, at).transpose(1, 2)
