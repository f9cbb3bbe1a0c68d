"""Choices of code by random numbers, as LayerDrop makes: export takes the likely branch.

``if torch.rand([]) < p: continue`` skips whole layers in training (A. Fan et al., "Reducing
Transformer Depth on Demand with Structured Dropout", 2019). A graph holds one branch.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_UNIFORM = (torch.rand, torch.rand_like, Tensor.uniform_)
_COMPARISONS = {
    Tensor.lt: True, Tensor.__lt__: True, Tensor.le: True, Tensor.__le__: True, torch.lt: True,
    Tensor.gt: False, Tensor.__gt__: False, Tensor.ge: False, Tensor.__ge__: False, torch.gt: False,
}  # fmt: skip
"""Operator -> whether it is true for small numbers."""
_GUARDS = {
    torch.isfinite: True, torch.isnan: False, torch.isinf: False,
    Tensor.isfinite: True, Tensor.isnan: False, Tensor.isinf: False,
}  # fmt: skip
"""Operator -> what it says of every finite number."""
_SAME = (torch.all, torch.any, Tensor.all, Tensor.any)
_OPPOSITE = (torch.logical_not, Tensor.logical_not, Tensor.__invert__)
_MIDDLE = 0.5


class RandomChoices(TorchFunctionMode):
    """Answers code that asks for the value of one uniform random number as for its median.

    Code that asks whether all of its numbers are finite is told that they are.

    Attributes:
        shares: How likely each choice that was asked for was not to be as it was answered.
        drawn: Whether Python's or numpy's random numbers were asked for meanwhile.
        guarded: Whether finite numbers were asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shares: list[float] = []
        self.drawn = self.guarded = False
        self._uniform: list[Tensor] = []
        self._compared: list[tuple[Tensor, bool, float]] = []
        self._finite: list[tuple[Tensor, bool]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function, but for one that asks for the value of such a number."""
        first = args[0] if args else None
        if func is Tensor.__bool__:
            for tensor, answer, share in self._compared:
                if tensor is first:
                    self.shares.append(share)
                    return answer
            if (finite := self._find_finite(first)) is not None:
                self.guarded = True
                return finite
        if func in (Tensor.item, Tensor.__float__) and self._is_uniform(first):
            self.shares.append(float("nan"))
            return _MIDDLE
        result = func(*args, **(kwargs or {}))
        if func in _UNIFORM and isinstance(result, Tensor) and result.numel() == 1:
            self._uniform.append(result)
        elif func in _COMPARISONS and self._is_uniform(first) and isinstance(args[1], int | float):
            small, level = _COMPARISONS[func], float(args[1])
            share = min(max(level if small else 1 - level, 0.0), 1.0)
            answer = share > _MIDDLE
            self._compared.append((result, answer, 1 - share if answer else share))
        elif func in _GUARDS:
            self._finite.append((result, _GUARDS[func]))
        elif func in (*_SAME, *_OPPOSITE) and (finite := self._find_finite(first)) is not None:
            self._finite.append((result, finite ^ (func in _OPPOSITE)))
        return result

    def _find_finite(self, value: Any) -> bool | None:
        return next((answer for tensor, answer in self._finite if tensor is value), None)

    def _is_uniform(self, value: Any) -> bool:
        return any(value is one for one in self._uniform)

    def describe(self) -> tuple[str, ...]:
        """Return what a graph lacks of the choices that were made, in words."""
        notes = []
        if self.shares:
            known = [share for share in self.shares if share == share]
            often = f" (probability {max(known):g})" if known else ""
            times = "choice" if len(self.shares) == 1 else "choices"
            notes.append(
                f"{len(self.shares)} {times} that its code makes by a random number in training, "
                f"such as to skip a layer (LayerDrop), {'is' if times == 'choice' else 'are'} not "
                f"kept: the rebuilt network always does what is likely, never the other{often}"
            )
        if self.guarded:
            notes.append("what its code does in training where numbers are not finite is not kept")
        if self.drawn:
            notes.append(
                "what its code decides by random numbers of Python or numpy in training is not kept"
            )
        return tuple(notes)


@contextmanager
def fix_random_choices() -> Iterator[RandomChoices]:
    """Yield the choices by random numbers that are made meanwhile, the same ones every time.

    The states of Python's and numpy's own generators are put back afterwards.
    """
    choices = RandomChoices()
    before = random.getstate(), np.random.get_state(legacy=False)
    random.seed(0)
    np.random.seed(0)
    python, array = random.getstate(), np.random.get_state(legacy=False)
    try:
        with choices:
            yield choices
    finally:
        after = np.random.get_state(legacy=False)
        choices.drawn = random.getstate() != python or _describe(after) != _describe(array)
        random.setstate(before[0])
        np.random.set_state(before[1])


def _describe(state: Any) -> str:
    return repr([(key, np.asarray(value).tolist()) for key, value in state["state"].items()])
