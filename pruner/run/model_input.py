"""ModelInput: what the network of a run is called with, by the configuration or by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import PrunerError
from ..models import DenseModel, Example, InputSpec, make_example, parse_specs, set_batch
from .config import Config


@dataclass(frozen=True)
class ModelInput:
    """The arguments of a call.

    Attributes:
        shape: Of one batch of the main input.
        specs: What the user says of every argument; () where the shape says it all.
    """

    shape: tuple[int, ...]
    specs: tuple[InputSpec, ...] = ()

    @classmethod
    def find(cls, config: Config, dense: DenseModel) -> ModelInput:
        """Return the input of a configuration; PrunerError where nothing says it."""
        given, batch, preset = config.input, config.measure.batch, dense.preset
        if texts := [text for text in given or () if isinstance(text, str)]:
            specs = set_batch(parse_specs(texts), batch)
            return cls(specs[0].shape, specs)
        if sizes := [size for size in given or () if isinstance(size, int)]:
            return cls((batch or sizes[0], *sizes[1:]))
        if preset.input_size is None:
            raise PrunerError(
                f"{dense.name} does not say its input: give --input, e.g. --input 1x3x224x224"
            )
        return cls((batch or 1, *preset.input_size))

    @property
    def identity(self) -> tuple[int | str, ...]:
        """What tells it from the input of another run."""
        return tuple(map(str, self.specs)) or self.shape

    def __str__(self) -> str:
        return describe_input(self.identity)

    def make(self, dense: DenseModel) -> Example:
        """Make the arguments of a call of the whole model."""
        return make_example(dense.module, self.specs) if self.specs else dense.example(self.shape)


def describe_input(identity: Iterable[int | str]) -> str:
    """Return a shape as 1x3x224x224, or what is said of every argument."""
    parts = list(identity)
    words = any(isinstance(one, str) for one in parts)
    return (", " if words else "x").join(map(str, parts))


def set_single_batch(identity: Iterable[int | str]) -> tuple[int | str, ...]:
    """Return a RUN's input at a batch of one, which is the same where only batches differ."""
    parts = list(identity)
    if any(isinstance(one, str) for one in parts):
        return tuple(map(str, set_batch(parse_specs(map(str, parts)), 1)))
    return (1, *parts[1:])
