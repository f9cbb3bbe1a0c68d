"""Former names of a dataclass's fields, which stay valid as its keywords."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def accept_former_names(**former: str) -> Callable[[type[T]], type[T]]:
    """Decorate a dataclass to take ``former`` names of fields as keywords of the present ones."""

    def decorate(cls: type[T]) -> type[T]:
        init: Callable[..., None] = cls.__init__

        @functools.wraps(init)
        def initialize(self: T, *args: Any, **named: Any) -> None:
            # ``dataclasses.replace`` fills in all present names: a former one that is given wins.
            given = {former[name]: named.pop(name) for name in former if name in named}
            init(self, *args, **{**named, **given})

        cls.__init__ = initialize  # type: ignore[method-assign,assignment]
        return cls

    return decorate
