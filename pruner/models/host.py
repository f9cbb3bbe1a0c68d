"""Host: the whole model that parts are pruned in, and PartTask, which judges them by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ..errors import PrunerError
from ..graph import GraphPart, child_modules, copy_model, evaluation_mode, find_device, unwrap_model
from ..tasks import Call, Replay, Task, WrappedTask, copy_tensors
from .submodule import find_parts, list_lent_attributes


class Host:
    """A copy of a model in evaluation mode, in which other modules take parts' places for a while.

    Attributes:
        model: The whole, with the parts of before; its parameters are not trained.
        paths: The parts' dotted names.
        parts: The parts of before.
    """

    def __init__(self, model: nn.Module, *paths: str) -> None:
        """Copy a model; PrunerError where it has no such submodules, or one lies in another."""
        self.model = copy_model(unwrap_model(model)).eval().requires_grad_(False)
        self.paths = paths
        self.parts = tuple(find_parts(self.model, paths).values())
        self._places = [
            (parent, name, k)
            for parent in self.model.modules()
            for name, child in child_modules(parent).items()
            for k, part in enumerate(self.parts)
            if child is part
        ]
        self._lent = [list_lent_attributes(part) for part in self.parts]

    @property
    def part(self) -> nn.Module:
        """The only part of before."""
        (part,) = self.parts
        return part

    def move(self, device: torch.device) -> None:
        """Bring the whole to a device."""
        if find_device(self.model) != device:
            self.model.to(device)

    def split(self, module: nn.Module) -> tuple[nn.Module, ...]:
        """Return the parts of a network that was traced of them, which share its tensors."""
        if len(self.parts) == 1:
            return (module,)
        if not isinstance(module, fx.GraphModule):
            raise PrunerError(
                f"{', '.join(self.paths)} are pruned together, but a {type(module).__name__} does "
                "not tell its parts apart: attention transfer takes a single part (set attention 0)"
            )
        return tuple(GraphPart(module, k) for k in range(len(self.parts)))

    @contextmanager
    def put(self, *parts: nn.Module) -> Iterator[nn.Module]:
        """Yield the whole with other modules in the parts' places, wherever these are called from.

        Attributes of the old parts that the rest may look up are lent to the new ones.
        """
        lent = [
            (part, name, value)
            for part, plain in zip(parts, self._lent, strict=True)
            for name, value in plain.items()
            if not hasattr(part, name)
        ]
        try:
            for part, name, value in lent:
                setattr(part, name, value)
            for parent, name, k in self._places:
                setattr(parent, name, parts[k])
            yield self.model
        finally:
            for parent, name, k in self._places:
                setattr(parent, name, self.parts[k])
            for part, name, _ in lent:
                delattr(part, name)


class PartTask(WrappedTask):
    """A task of a whole model, asked about one of its parts, or several that are one Network.

    The network that is scored, repaired and trained is the parts'; what is called, compared and
    judged is the whole with them in their places.
    """

    def __init__(self, task: Task, host: Host) -> None:
        """Take the whole's task and the whole."""
        super().__init__(task)
        self.host = host

    @property
    def calls_once(self) -> bool:
        """False: the whole decides what the parts are called with, and how often."""
        return False

    def forward(self, module: nn.Module, inputs: Any, targets: Any = None) -> Any:
        """Return the whole's outputs with the parts in their places."""
        if any(True for _ in module.parameters()):
            self.host.move(find_device(module))
        with self.host.put(*self.host.split(module)) as whole:
            return self.task.forward(whole, inputs, targets)

    def list_calls(self, module: nn.Module, inputs: Any) -> list[Call]:
        """Return what the parts of before are called with when the whole runs on inputs.

        A call of several parts has one argument a part, its own call. Where one is called less
        often than another, its last call is repeated.
        """
        self.host.move(find_device(module))
        calls = self._record_calls(inputs)
        if len(calls) == 1:
            return calls[0]
        for path, own in zip(self.host.paths, calls):
            if not own:
                raise PrunerError(f"{type(self.host.model).__name__} never calls {path!r}")
        count = max(map(len, calls))
        return [(tuple(own[min(k, len(own) - 1)] for own in calls), {}) for k in range(count)]

    def _record_calls(self, inputs: Any) -> list[list[Call]]:
        """Run the whole as its task does and return the calls of every part."""
        calls: list[list[Call]] = [[] for _ in self.host.parts]

        def record(number: int) -> Any:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                calls[number].append((copy_tensors(args), copy_tensors(kwargs)))

            return hook

        handles = [
            part.register_forward_pre_hook(record(k), with_kwargs=True)
            for k, part in enumerate(self.host.parts)
        ]
        try:
            with torch.no_grad(), evaluation_mode(self.host.model):
                self.task.forward(self.host.model, inputs)
        finally:
            for handle in handles:
                handle.remove()
        return calls

    def complete(
        self, results: Sequence[Any], inputs: Any, module: nn.Module | None = None,
        arguments: Sequence[tuple[Any, ...]] = (),
    ) -> Any:  # fmt: skip
        """Return the whole's outputs if the parts' calls return these results.

        Of several parts, one that is called with other arguments than it was, since another part
        returned something else, is run on them.
        """
        results = copy_tensors(list(results))
        if len(self.host.parts) == 1:
            stubs: tuple[nn.Module, ...] = (Replay(results),)
        else:
            assert module is not None
            self.host.move(find_device(module))
            stubs = _make_stubs(self.host.split(module), results, arguments)
        with self.host.put(*stubs) as whole:
            return self.task.forward(whole, inputs)


class _PartReplay(nn.Module):
    """A part that returns given results where it is called as it was, and else computes."""

    def __init__(self, part: nn.Module, results: list[Any], arguments: list[list[Any]]) -> None:
        super().__init__()
        self.part, self.results, self.arguments = part, results, arguments
        self.count = 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        number, self.count = self.count, self.count + 1
        leaves = pytree.tree_leaves((args, kwargs))
        if number < len(self.results) and _are_same(leaves, self.arguments[number]):
            return self.results[number]
        return self.part(*args, **kwargs)


def _make_stubs(
    parts: Sequence[nn.Module], results: Sequence[Any], arguments: Sequence[tuple[Any, ...]]
) -> tuple[nn.Module, ...]:
    """Return a stand-in for every part, with its results of each joint call and its arguments."""
    stubs, start = [], 0
    for k, part in enumerate(parts):
        assert isinstance(part, GraphPart)
        end = start + part.count_arguments()
        own = [list(flat[start:end]) for flat in arguments]
        stubs.append(_PartReplay(part, [joint[k] for joint in results], own))
        start = end
    return tuple(stubs)


def _are_same(found: Sequence[Any], known: Sequence[Any]) -> bool:
    """Return whether two calls have the same arguments, bit by bit."""
    return len(found) == len(known) and all(
        (a.shape, a.dtype) == (b.shape, b.dtype) and torch.equal(a, b)
        if isinstance(a, Tensor) and isinstance(b, Tensor)
        else type(a) is type(b) and a == b
        for a, b in zip(found, known)
    )
