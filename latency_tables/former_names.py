"""Former names of a dataclass's fields, which stay valid as its attributes and keywords."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")


def accept_former_names(**former: str) -> Callable[[type[T]], type[T]]:
    """Decorate a dataclass to have and take ``former`` names of fields for the present ones."""

    def decorate(cls: type[T]) -> type[T]:
        init: Callable[..., None] = cls.__init__

        def initialize(self: T, *args: Any, **named: Any) -> None:
            # ``dataclasses.replace`` fills in all present names: a former one that is given wins.
            given = {former[name]: named.pop(name) for name in former if name in named}
            init(self, *args, **{**named, **given})

        cls.__init__ = initialize  # type: ignore[method-assign,assignment]
        for old, new in former.items():
            setattr(cls, old, property(attrgetter(new), doc=f"The former name of ``{new}``."))
        return cls

    return decorate
