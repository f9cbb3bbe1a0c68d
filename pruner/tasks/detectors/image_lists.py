"""Detectors that are called as torchvision's are: with a list of images, in 0..1.

In training mode they return losses, else detections. Which mode holds is said to the modules that
ask for it alone: layers keep theirs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ...errors import PrunerError, first_line
from ..box_divergence import PredictionGroup
from .base import Boxes, Detector


class ImageListDetector(Detector):
    """A detector of unknown class, compared by what named parts of it return.

    Attributes:
        compared: Names of submodules whose outputs are the predictions.
    """

    def __init__(self, compared: Sequence[str]) -> None:
        """Take the names of the submodules whose outputs are compared."""
        self.compared = tuple(compared)

    def predict(self, module: nn.Module, images: Sequence[Tensor]) -> dict[str, Tensor]:
        """Run the detector as far as its compared parts."""
        names = self._list_recorded()
        with (
            self._switch(module, False),
            _record(module, names, True) as found,
            suppress(_Recorded),
        ):
            module(list(images))
        return self._read(module, found)

    def find_losses(
        self, module: nn.Module, images: Sequence[Tensor], targets: Sequence[Boxes]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run it in training mode; places are sampled alike each time where layers do not train."""
        steady = nullcontext() if module.training else _fix_choices()
        with self._switch(module, True), _record(module, self._list_recorded()) as found, steady:
            try:
                losses = module(list(images), [dict(one) for one in targets])
            except (AssertionError, LookupError, TypeError, ValueError) as error:
                raise PrunerError(
                    f"{type(module).__name__} cannot compute its losses from targets with "
                    f"{', '.join(targets[0])}: {first_line(error)}"
                ) from error
        if not isinstance(losses, Mapping):
            raise PrunerError(
                f"{type(module).__name__} in training mode returns a {type(losses).__name__}, "
                "expected its losses by name"
            )
        with self._switch(module, False):
            return dict(losses), self._read(module, found)

    def detect(self, module: nn.Module, images: Sequence[Tensor]) -> list[Boxes]:
        """Run it as it is used."""
        with self._switch(module, False):
            return list(module(list(images)))

    def count_classes(self, predictions: Mapping[str, Tensor]) -> int:
        """Return 0: unknown."""
        return 0

    def _list_recorded(self) -> tuple[str, ...]:
        """Return the submodules whose outputs `_read` reads."""
        return self.compared

    def _read(self, module: nn.Module, found: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the predictions among what submodules returned."""
        missing = [name for name in self.compared if name not in found]
        if missing:
            raise PrunerError(f"{type(module).__name__} never calls its {missing[0]!r} (compare)")
        return {
            f"{name}.{k}": leaf
            for name in self.compared
            for k, leaf in enumerate(pytree.tree_leaves(found[name]))
            if isinstance(leaf, Tensor) and leaf.is_floating_point()
        }

    def _switch(self, module: nn.Module, training: bool) -> Any:
        return set_mode(module, _is_container, training)


class OneStageDetector(ImageListDetector):
    """torchvision's SSD, RetinaNet and FCOS: what their head says of every anchor."""

    def __init__(self, background: int | None) -> None:
        """Take the background's class, None where classes are independent."""
        super().__init__(("head",))
        self.groups = (
            PredictionGroup("cls_logits", ("bbox_regression",), background),
            PredictionGroup("bbox_ctrness"),
        )

    def count_classes(self, predictions: Mapping[str, Tensor]) -> int:
        """Count the columns but the first, which is the background's."""
        return predictions["cls_logits"].shape[-1] - 1

    def _read(self, module: nn.Module, found: Mapping[str, Any]) -> dict[str, Tensor]:
        return dict(found["head"])

    def _switch(self, module: nn.Module, training: bool) -> Any:
        return set_mode(module, lambda one: one is module, training)


class _Recorded(Exception):
    """Ends the forward pass of a detector: all that is read of it has been computed."""


@contextmanager
def _record(
    module: nn.Module, names: Sequence[str], stop: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield what submodules return, by their names; stop once all have."""
    found: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, result: Any) -> None:
            found.setdefault(name, result)
            if stop and len(found) == len(names):
                raise _Recorded

        return hook

    handles = []
    try:
        for name in names:
            try:
                part = module.get_submodule(name)
            except AttributeError:
                raise PrunerError(
                    f"{type(module).__name__} has no submodule {name!r} to compare"
                ) from None
            handles.append(part.register_forward_hook(keep(name)))
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def set_mode(
    module: nn.Module, asks: Callable[[nn.Module], bool], training: bool
) -> Iterator[None]:
    """Tell those modules that ask for it whether they train, and all others nothing."""
    before = {one: one.training for one in _list_modules(module) if asks(one)}
    try:
        for one in before:
            one.training = training
        yield
    finally:
        for one, mode in before.items():
            one.training = mode


def _list_modules(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and all below it, without those within cut parts."""
    yield module
    for child in module.children():
        if not isinstance(child, fx.GraphModule):
            yield from _list_modules(child)


def _is_container(module: nn.Module) -> bool:
    """Return whether a module only calls others: no layer of its own that trains otherwise."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return not own and any(True for _ in module.children())


@contextmanager
def _fix_choices() -> Iterator[None]:
    """Draw the same random numbers every time, and disturb nobody's."""
    state = random.getstate()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        random.seed(0)
        try:
            yield
        finally:
            random.setstate(state)
