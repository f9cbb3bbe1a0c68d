"""TaskRequest: what a task of the registry is opened with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..data import Preprocessing, TaskData, open_factory
from ..errors import PrunerError
from ..utils import is_object_name, read_settings

S = TypeVar("S")


@dataclass(frozen=True)
class TaskRequest:
    """The network that a task is for, and what the user said of the task.

    Attributes:
        network: The model's name, for messages.
        run: Calls the whole model on its example inputs, in evaluation mode.
        inputs: The example inputs one after the other (``tree_leaves((args, kwargs))``).
        input_shape: Of the main input, batch first.
        data: The path that was given, if any.
        settings: What the configuration's entry task holds beside the name.
        mean: Of each channel of images, in units of 0..1, as the model says.
        std: By which the difference is divided.
        crop: Share of the resized image's side that the evaluation's central crop keeps.
        interpolation: ``"bilinear"`` or ``"bicubic"``.
    """

    network: str
    run: Callable[[], Any]
    inputs: tuple[Any, ...]
    input_shape: tuple[int, ...]
    data: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop: float = 0.875
    interpolation: str = "bilinear"

    def require_data(self) -> str:
        """Return the path; PrunerError where none was given."""
        if self.data is None:
            raise PrunerError("this needs data: give --data DIR")
        return self.data

    def open_data(self, open_folder: Callable[[str], TaskData]) -> TaskData:
        """Open the data: what ``package.module:factory`` returns, or a path as the task reads it.

        Raises:
            PrunerError: No data was given, or it cannot be read.
        """
        name = self.require_data()
        if is_object_name(name):
            return open_factory(name, self.make_preprocessing())
        return open_folder(name)

    def make_preprocessing(self) -> Preprocessing:
        """Return what becomes of an image before the network sees it."""
        return Preprocessing(
            self.image_size(), tuple(self.mean), tuple(self.std), self.crop, self.interpolation
        )

    def image_size(self) -> tuple[int, int]:
        """Return height and width of the one image that the network takes; else PrunerError."""
        shape = self.input_shape
        if len(shape) != 4 or shape[1] != 3 or len(self.inputs) != 1:
            raise PrunerError(
                f"images need one input of batch x 3 x height x width; {self.network} takes "
                f"{len(self.inputs)}, the first of {'x'.join(map(str, shape))}"
            )
        return shape[2], shape[3]

    def read_settings(self, kind: type[S]) -> S:
        """Read the settings as a class of settings; PrunerError names what is wrong."""
        try:
            return read_settings(kind, dict(self.settings))
        except PrunerError as error:
            raise PrunerError(f"task: {error}") from None

    def refuse_settings(self) -> None:
        """Raise PrunerError where there are settings."""
        if self.settings:
            raise PrunerError(
                f"task: unknown entry {next(iter(self.settings))}: it has no settings"
            )
