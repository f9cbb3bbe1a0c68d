"""Data sets of the user's own: what ``package.module:factory`` returns, as training and test."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from ..errors import PrunerError, first_line
from ..utils import import_object, search_current_folder
from .dataset_samples import DatasetSamples
from .dense_images import DenseImages
from .framing import Framing
from .hf_datasets import is_hf, wrap_hf
from .preprocessing import Preprocessing
from .protocol import TaskData
from .sample_data import SampleData
from .streams import StreamSamples, keep_stream

_HELD_OUT = ("val", "test", "valid", "validation", "testing")
_EXPECTED = (
    "expected a torch.utils.data.Dataset or another object with __len__ and __getitem__, an "
    "iterable, a pair (train, test) of them or a dict with train and test"
)


def open_factory(
    name: str,
    preprocessing: Preprocessing | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    framing: Framing | None = None,
    targets: tuple[str, ...] = (),
    ignore: int = 255,
    workers: int | None = None,
    on_error: str = "raise",
    cache_mb: int = 2048,
) -> TaskData:
    """Call the user's factory, and read what it returns; see `wrap_datasets`.

    Args:
        name: ``package.module:factory``, also from the current folder. A factory with a parameter
            ``split`` is called for ``"train"`` and for ``"test"``.
        preprocessing: See `wrap_datasets`.
        settings: Keyword arguments of the factory.
        framing: See `wrap_datasets`.
        targets: See `wrap_datasets`.
        ignore: See `wrap_datasets`.
        workers: See `wrap_datasets`.
        on_error: See `wrap_datasets`.
        cache_mb: See `wrap_datasets`.

    Raises:
        PrunerError: It cannot be imported or called, or returns no data.
    """
    factory = import_object(name, "data")
    keywords = dict(settings or {})
    with search_current_folder():
        if callable(factory) and _takes_split(factory) and "split" not in keywords:
            splits = [_call(factory, name, keywords | {"split": one}) for one in ("train", "test")]
            made: Any = {"train": splits[0], "test": splits[1]}
        else:
            made = _call(factory, name, keywords) if callable(factory) else factory
    return wrap_datasets(
        made, preprocessing, where=name, framing=framing, targets=targets, ignore=ignore,
        workers=workers, on_error=on_error, cache_mb=cache_mb,
    )  # fmt: skip


def wrap_datasets(
    made: Any,
    preprocessing: Preprocessing | None = None,
    *,
    where: str = "data",
    framing: Framing | None = None,
    targets: tuple[str, ...] = (),
    ignore: int = 255,
    workers: int | None = None,
    on_error: str = "raise",
    cache_mb: int = 2048,
) -> TaskData:
    """Make training and test batches of data sets in memory.

    A map-style data set (with ``__len__`` and ``__getitem__``) is read in the order of image
    folders. An iterable is read through once and kept where it fits; else its order is its own: it
    may be tested on, and trained on if it has ``set_epoch(epoch)``, which says that it draws a new
    order for every epoch by its number.

    Args:
        made: A data set to train on, a pair (train, test), a dict with train and val (or test), a
            Hugging Face data set, or what is such data already (`pruner.data.TaskData`).
        preprocessing: What becomes of Pillow's images: as in image folders, or framed with their
            mask where the target is an image too; None refuses them.
        where: What it is called in messages.
        framing: Of images with masks.
        targets: Keys that are targets, where samples are dicts; the others are keyword arguments.
        ignore: Value of pixels of masks that do not count.
        workers: Processes that read samples (None: the cores, at most 8; none for what is kept).
        on_error: ``"raise"`` or ``"skip"`` samples that cannot be read.
        cache_mb: An iterable is kept if its samples take at most that much memory.

    Raises:
        PrunerError: It is no data, or an iterable to train on has no order that can be fixed.
    """
    if all(callable(getattr(made, verb, None)) for verb in ("train", "test", "fingerprint")):
        return made
    if is_hf(made):
        return wrap_hf(
            made, preprocessing, where=where, framing=framing, ignore=ignore, workers=workers,
            on_error=on_error,
        )  # fmt: skip
    train, test = _split(made, where)
    how = DenseImages(preprocessing, framing or Framing()) if preprocessing is not None else None
    plain = DatasetSamples(where, None, how, tuple(targets), ignore)
    training = _wrap(train, plain, cache_mb * 2**20, trains=True)
    testing = None if test is None else _wrap(test, plain, cache_mb * 2**20, trains=False)
    classes = getattr(train, "classes", None)
    names = tuple(map(str, classes)) if isinstance(classes, list | tuple) else ()
    kept = isinstance(training.dataset, list)
    return SampleData(where, training, testing, names, (), 0 if kept else workers, on_error)


def _wrap(made: Any, plain: DatasetSamples, cache_bytes: int, trains: bool) -> DatasetSamples:
    """Return one data set as samples."""
    if isinstance(made, DataLoader):
        raise PrunerError(
            f"{plain.where}: a DataLoader gives batches, in an order of its own; give its dataset"
        )
    listed = hasattr(made, "__getitem__") and hasattr(made, "__len__")
    if listed and not isinstance(made, IterableDataset | Mapping | str):
        return replace(plain, dataset=made)
    if not isinstance(made, Iterable) or isinstance(made, Mapping | str):
        raise PrunerError(f"{plain.where}: got a {type(made).__name__}; {_EXPECTED}")
    once = iter(made) is made
    kept, count = keep_stream(made, plain.where, cache_bytes)
    if kept is not None:
        return replace(plain, dataset=kept)
    size = f"an iterable of more than {cache_bytes / 2**20:g} MB"
    if once:
        raise PrunerError(
            f"{plain.where}: {size} that can be read once only; return one that makes a new "
            "iterator each time, or raise cache_mb"
        )
    if trains and not hasattr(made, "set_epoch"):
        raise PrunerError(
            f"{plain.where}: {size} cannot be trained on, since no order can be fixed: give it "
            "set_epoch(epoch), or __len__ and __getitem__, or raise cache_mb"
        )
    return StreamSamples(plain.where, made, plain.how, plain.targets, plain.ignore, count)


def _split(made: Any, where: str) -> tuple[Any, Any]:
    """Return the data sets to train and to test on, the latter None where there is none."""
    if isinstance(made, Mapping):
        test = next((made[name] for name in _HELD_OUT if name in made), None)
        if "train" not in made:
            found = ", ".join(map(str, made)) or "nothing"
            raise PrunerError(f"{where}: a dict without train; found {found}")
        return made["train"], test
    if isinstance(made, tuple):
        if len(made) != 2:
            raise PrunerError(f"{where}: a tuple of {len(made)}; {_EXPECTED}")
        return made
    return made, None


def _takes_split(factory: Callable[..., Any]) -> bool:
    try:
        return "split" in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # builtins have none
        return False


def _call(factory: Callable[..., Any], name: str, keywords: Mapping[str, Any]) -> Any:
    try:
        return factory(**keywords)
    except PrunerError:
        raise
    except Exception as error:  # whatever the user's factory raises
        said = ", ".join(f"{key}={value!r}" for key, value in keywords.items())
        raise PrunerError(
            f"data {name!r}: calling it with ({said}) failed: {first_line(error)}"
        ) from error
