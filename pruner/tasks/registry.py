"""The built-in tasks by name, and how one is chosen."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..errors import PrunerError, first_line
from ..utils import import_object, search_current_folder, suggest_names
from .base import Task
from .classification import Classification
from .depth import Depth
from .detection import Detection
from .embedding import Embedding
from .guarded import GuardedTask
from .multilabel import Multilabel
from .recognition import Recognition
from .request import TaskRequest
from .retrieval import Retrieval
from .segmentation import Segmentation
from .several import Several

TASKS: dict[str, Callable[[TaskRequest], Task]] = {
    Classification.name: Classification.open,
    Multilabel.name: Multilabel.open,
    Segmentation.name: Segmentation.open,
    Detection.name: Detection.open,
    Depth.name: Depth.open,
    Retrieval.name: Retrieval.open,
    Embedding.name: Embedding.open,
    Recognition.name: Recognition.open,
    Several.name: Several.open,
}
"""Name -> what opens the task. A new task is one file in this room and one line here."""

DEFAULT = Classification
"""What a network is taken for where nothing is said."""


def open_task(choice: str | Mapping[str, Any] | None, request: TaskRequest) -> Task:
    """Open the task that a user chose.

    Args:
        choice: A name of `TASKS`, ``package.module:factory``, or a mapping with ``name`` and the
            task's settings; None: classification, if that is what the network and data are for.
        request: The network, and the path of the data.

    Raises:
        PrunerError: The name is unknown, settings are wrong, data is missing or does not fit.
    """
    task = _open_choice(choice, replace(request, open_other=_open_choice))
    target = request.open_target()
    return task if target is None else task.with_target(target)


def _open_choice(choice: str | Mapping[str, Any] | None, request: TaskRequest) -> Task:
    if choice is None:
        return _open_default(request)
    name, settings = read_choice(choice)
    request = replace(request, settings=settings)
    if name in TASKS:
        return TASKS[name](request)
    if ":" not in name:
        hint = suggest_names(name, TASKS, 1, 0.6)
        raise PrunerError(f"unknown task {name!r}{f': {hint}' if hint else ''} ({_list_forms()})")
    return _call_factory(name, request)


def read_choice(choice: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of a task and its settings; PrunerError where there is no name."""
    if isinstance(choice, str):
        return choice, {}
    settings = dict(choice)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise PrunerError(f"entry task.name is missing: {_list_forms()}")
    return name, settings


def describe_choice(choice: str | Mapping[str, Any] | None) -> str:
    """Return a choice in words: the name, and the settings behind it."""
    if choice is None:
        return DEFAULT.name
    name, settings = read_choice(choice)
    return ", ".join([name, *(f"{key} {value}" for key, value in settings.items())])


def _open_default(request: TaskRequest) -> Task:
    try:
        return TASKS[DEFAULT.name](request)
    except PrunerError as error:
        raise PrunerError(
            f"{error}. Without --task that is what is expected; say what the network is for: "
            f"{_list_forms()}. Or choose a criterion that needs no data, such as magnitude"
        ) from error


def _list_forms() -> str:
    return f"--task {', '.join(TASKS)} or package.module:factory"


def _call_factory(name: str, request: TaskRequest) -> Task:
    """Call the user's factory with the settings, and the path of the data where one was given."""
    found = import_object(name, "task")
    if isinstance(found, Task):
        return GuardedTask(found)
    keywords = dict(request.settings)
    if request.data is not None:
        keywords["data"] = request.data
    try:
        inspect.signature(found).bind(**keywords)
    except (TypeError, ValueError) as error:
        raise PrunerError(
            f"task {name!r} does not take {', '.join(keywords) or 'no arguments'}: {error}"
        ) from error
    try:
        with search_current_folder():
            made = found(**keywords)
    except PrunerError:
        raise
    except Exception as error:  # whatever the user's factory raises
        raise PrunerError(f"task {name!r} failed: {first_line(error)}") from error
    if not isinstance(made, Task):
        raise PrunerError(f"task {name!r} made a {type(made).__name__}, expected a pruner.Task")
    return GuardedTask(made)
