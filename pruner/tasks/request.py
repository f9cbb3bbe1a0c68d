"""TaskRequest: what a task of the registry is opened with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from torch import Tensor, nn

from ..data import (
    Preprocessing,
    TaskData,
    is_saved_dataset,
    open_factory,
    open_saved_dataset,
    open_unlabelled,
)
from ..errors import PrunerError
from ..utils import is_object_name, read_settings

S = TypeVar("S")


def _open_nothing(choice: Any, request: Any) -> Any:
    raise PrunerError("tasks within tasks are opened by pruner.tasks.open_task")


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
        keywords: Names of the example inputs that are keyword arguments.
        folder: Where the model was loaded from, if it lies in a folder with its tokenizer.
        target: The path of a second, unlabelled data set, if any.
        open_other: Opens another task, from its choice and its request.
        model: The whole model, for tasks that ask what kind it is; it is not to be changed.
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
    keywords: tuple[str, ...] = ()
    folder: str | None = None
    target: str | None = None
    open_other: Callable[[Any, TaskRequest], Any] = field(default=_open_nothing, repr=False)
    model: nn.Module | None = None

    def require_data(self) -> str:
        """Return the path; PrunerError where none was given."""
        if self.data is None:
            raise PrunerError("this needs data: give --data DIR")
        return self.data

    def open_data(
        self,
        open_folder: Callable[[str], TaskData],
        preprocessing: Preprocessing | None = None,
        **options: Any,
    ) -> TaskData:
        """Open the data: what ``package.module:factory`` returns, or a path as the task reads it.

        A folder that Hugging Face's ``save_to_disk`` wrote is read as one, whatever the task.

        Args:
            open_folder: Reads a path.
            preprocessing: Of Pillow's images that a factory's data set gives (None: as the model
                says, if it takes images).
            **options: Of `pruner.data.open_saved_dataset`.

        Raises:
            PrunerError: No data was given, or it cannot be read.
        """
        name = self.require_data()
        if is_object_name(name):
            return open_factory(name, preprocessing or self.find_preprocessing())
        if is_saved_dataset(name):
            preprocessing = preprocessing or self.find_preprocessing()
            return open_saved_dataset(name, preprocessing, **options)
        return open_folder(name)

    def open_target(self) -> TaskData | None:
        """Open the second data set, of which inputs alone are read; None where none was given.

        Raises:
            PrunerError: It cannot be read, or is a folder while the network takes no images.
        """
        if self.target is None:
            return None
        preprocessing = self.find_preprocessing()
        if is_object_name(self.target):
            return open_factory(self.target, preprocessing)
        if preprocessing is None:
            raise PrunerError(
                f"target_data: a folder is read for networks of images; of {self.network} give "
                "package.module:factory"
            )
        return open_unlabelled(self.target, preprocessing)

    def make_preprocessing(
        self, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
    ) -> Preprocessing:
        """Return what becomes of an image before the network sees it.

        Args:
            mean: Of each channel, in place of the model's.
            std: Likewise.

        Raises:
            PrunerError: The network takes no images, or of grey ones does not say mean and std.
        """
        channels, height, width = self.find_image()
        mean, std = mean or tuple(self.mean), std or tuple(self.std)
        if channels == 3:
            mean, std = (3 * one if len(one) == 1 else one for one in (mean, std))
        if len(mean) != channels or len(std) != channels:
            raise PrunerError(
                f"{self.network} takes images of {channels} channel{'s' * (channels > 1)}, but "
                f"mean and std are {list(mean)} and {list(std)}: say them in the task's settings, "
                "such as mean: 0.5 and std: 0.5"
            )
        return Preprocessing((height, width), mean, std, self.crop, self.interpolation)

    def find_preprocessing(self) -> Preprocessing | None:
        """Return `make_preprocessing`, or None where the network takes no images."""
        return self.make_preprocessing() if self._list_images() else None

    def find_image(self) -> tuple[int, int, int]:
        """Return channels, height and width of the one image among the inputs; else PrunerError."""
        found = self._list_images()
        if len(found) != 1:
            shapes = ", ".join("x".join(map(str, getattr(x, "shape", ()))) for x in self.inputs)
            raise PrunerError(
                "images need one input of batch x 3 (or 1) x height x width; "
                f"{self.network} takes {shapes}"
            )
        channels, height, width = found[0].shape[1:]
        return channels, height, width

    def _list_images(self) -> list[Tensor]:
        """Return the inputs that may be images."""
        return [
            x for x in self.inputs
            if isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] in (1, 3)
            and x.is_floating_point()
        ]  # fmt: skip

    def take_output(self, pick: Callable[[Any], Any], data: str | None = None) -> TaskRequest:
        """Return the request of a task that judges a part of the outputs.

        Args:
            pick: From what the network returns to that part.
            data: A data set of that task's own, if it has one.
        """
        run = self.run
        return replace(self, run=lambda: pick(run()), data=data or self.data)

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
