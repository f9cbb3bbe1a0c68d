"""What a run is asked to do: read from YAML or the command line, checked, and saved resolved."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..errors import PrunerError
from ..problem import Budget
from ..search import SolveConfig
from ..tuning import Recipe
from ..utils import require, suggest_names, wrong_value

T = TypeVar("T")


@dataclass(frozen=True)
class MeasureConfig:
    """How latency is measured.

    precision is what the engine computes in; batch the images of one inference (None: as input
    says); probes how many networks are timed (None: as many as it takes). library is the folder of
    tables that are shared among networks (None: this user's own; "none": off).
    """

    engine: str = "onnxruntime"
    threads: int = 1
    precision: str = "fp32"
    batch: int | None = None
    probes: int | None = None
    quick: bool = False
    library: str | None = None

    def __post_init__(self) -> None:
        require(self.threads >= 1, "measure.threads", "at least 1", self.threads)
        require(self.probes is None or self.probes >= 2, "measure.probes", ">= 2", self.probes)
        require(self.batch is None or self.batch >= 1, "measure.batch", "at least 1", self.batch)
        known = ("fp32", "fp16", "bf16", "int8")
        require(
            self.precision in known, "measure.precision", f"one of {', '.join(known)}",
            self.precision,
        )  # fmt: skip


@dataclass(frozen=True)
class ScoreConfig:
    """How importance is estimated, and on how many training images.

    With rotate, linear streams are turned to their main directions first (`pruner.rotate`).
    """

    criterion: str = "measured"
    images: int = 1024
    batch_size: int = 64
    rotate: bool = True

    def __post_init__(self) -> None:
        require(self.images >= 1, "score.images", "at least 1", self.images)
        require(self.batch_size >= 1, "score.batch_size", "at least 1", self.batch_size)


@dataclass(frozen=True)
class RoundsConfig:
    """Pruning in rounds of score, solve and tune; count 1 is one shot.

    Every round but the last divides the latency by the same factor on the way to the budget, and
    its network is repaired and tuned as section finetune says, but for this many epochs, on at most
    that many training images (None: as there).
    """

    count: int = 1
    epochs: int = 1
    images: int | None = None

    def __post_init__(self) -> None:
        require(self.count >= 1, "rounds.count", "at least 1", self.count)
        require(self.epochs >= 0, "rounds.epochs", "0 or more", self.epochs)
        require(self.images is None or self.images >= 1, "rounds.images", ">= 1", self.images)


@dataclass(frozen=True)
class FinetuneConfig(Recipe):
    """How accuracy is won back: every setting of `Recipe`, and how long.

    repair refits, before the first epoch, what reads cut channels, on that many training images
    (0: off; see `pruner.repair`). epochs 0 only recalibrates batch norm, where there is no repair.
    images limits the training images to that many (None: all). With reference, the dense network
    gets the same fine-tune, as the fair figure to compare with.
    """

    epochs: int = 0
    repair: int = 0
    images: int | None = None
    reference: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.epochs >= 0, "finetune.epochs", "0 or more", self.epochs)
        require(self.repair >= 0, "finetune.repair", "0 or more images", self.repair)
        require(self.images is None or self.images >= 1, "finetune.images", ">= 1", self.images)

    @property
    def recipe(self) -> Recipe:
        """The settings alone."""
        names = [entry.name for entry in dataclasses.fields(Recipe)]
        return Recipe(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class Config:
    """A whole run. Paths are relative to the folder that the command is called in.

    input is the shape of one batch of the main input (None: the model's own, batch 1); arguments
    go to the model's factory; submodule is the dotted name of the part to prune (None: all of it);
    with several budgets each gets a folder of its own below out.
    """

    model: str
    out: str | None = None
    weights: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    input: tuple[int, ...] | None = None
    submodule: str | None = None
    data: str | None = None
    budgets: tuple[str, ...] = ()
    seed: int = 0
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    solve: SolveConfig = field(default_factory=SolveConfig)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)

    def __post_init__(self) -> None:
        if self.input is not None:
            require(
                len(self.input) >= 2 and min(self.input) >= 1,
                "input",
                "batch x channels x height x width, e.g. 1x3x224x224",
                "x".join(map(str, self.input)),
            )
        parsed = [Budget.parse(text) for text in self.budgets]
        names = [budget.slug for budget in parsed]
        require(len(set(names)) == len(names), "budgets", "each one once", list(self.budgets))
        object.__setattr__(self, "budgets", tuple(str(budget) for budget in parsed))

    def to_dict(self) -> dict[str, Any]:
        """Plain data with every default filled in, as run.json holds it."""
        return dataclasses.asdict(self)

    def changed(self, changes: Mapping[str, Any]) -> Config:
        """This configuration with some entries replaced; sections are merged."""
        content = self.to_dict()
        for key, value in changes.items():
            section = isinstance(value, Mapping) and isinstance(content.get(key), dict)
            content[key] = {**content[key], **value} if section else value
        return Config.from_dict(content)

    @classmethod
    def from_dict(cls, content: Any, where: str = "") -> Config:
        """Read plain data; unknown keys and values of a wrong type are refused by name."""
        if isinstance(content, Mapping):
            content = dict(content)
            if "budget" in content:
                require("budgets" not in content, "budget", "budget or budgets", "both")
                content["budgets"] = [content.pop("budget")]
            if isinstance(content.get("input"), str):
                content["input"] = parse_shape(content["input"])
        try:
            return _read(cls, content, "")
        except PrunerError as error:
            raise PrunerError(f"{where}: {error}") if where else error from None

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> Config:
        """Read a configuration file."""
        import yaml

        if not Path(path).is_file():
            raise PrunerError(f"there is no configuration file {str(path)!r}")
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            text = " ".join(str(error).split())
            raise PrunerError(f"{path}: not YAML: {text}") from error
        return cls.from_dict(content, str(path))


def parse_shape(text: str) -> tuple[int, ...]:
    """``1x3x224x224`` as a tuple."""
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        raise wrong_value("input", "a shape like 1x3x224x224", text) from None


def parse_arguments(texts: Iterable[str]) -> dict[str, Any]:
    """``NAME=VALUE`` texts, each value read as YAML: numbers, true, lists, text."""
    import yaml

    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise wrong_value("--arg", "NAME=VALUE", text)
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise wrong_value("--arg", "NAME=VALUE", text) from None
    return found


def _read(cls: type[T], content: Any, where: str) -> T:
    if not isinstance(content, Mapping):
        raise wrong_value(where or "the configuration", "names and values", content)
    hints = typing.get_type_hints(cls)
    for key in content:
        if key not in hints:
            hint = suggest_names(str(key), hints, 1, 0.6) or f"known are {', '.join(hints)}"
            raise PrunerError(f"unknown entry {_join(where, key)}: {hint}")
    values = {key: _convert(hints[key], value, _join(where, key)) for key, value in content.items()}
    for entry in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = entry.default is entry.default_factory is dataclasses.MISSING
        if required and entry.name not in values:
            raise PrunerError(f"entry {_join(where, entry.name)} is missing")
    try:
        return cls(**values)
    except PrunerError as error:  # a class that does not know in which section it stands
        known = not where or str(error).startswith(where)
        raise error if known else PrunerError(f"{where}.{error}") from None


def _convert(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _read(typing.cast(type, kind), {} if value is None else value, where)
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        for option in options:  # the exact type first: an int is no text, a text no number
            if _fits(option, value):
                return _convert(option, value, where)
        if float in options and isinstance(value, str):
            return _convert(float, value, where)
        raise wrong_value(where, " or ".join(map(_name, options)), value)
    if origin is tuple:
        if isinstance(value, (str, int, float)):
            value = [value]
        if not isinstance(value, (list, tuple)):
            raise wrong_value(where, "a list", value)
        return tuple(_convert(options[0], item, where) for item in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise wrong_value(where, "names and values", value)
        return dict(value)
    if kind is float and isinstance(value, str):
        try:  # YAML reads 1e-4 as text
            return float(value)
        except ValueError:
            pass
    if not _fits(kind, value):
        raise wrong_value(where, _name(kind), value)
    return float(value) if kind is float else value


def _fits(kind: Any, value: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        return isinstance(value, (list, tuple))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _name(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return names.get(kind, "nothing" if kind is type(None) else "a list")


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)
