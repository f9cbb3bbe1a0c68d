"""What a run is asked to do: read from YAML or the command line, checked, and saved resolved."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainSerializer,
    StrictBool,
    StrictInt,
    StrictStr,
)

from ..errors import PrunerError
from ..importance import ScoreConfig
from ..models import parse_specs
from ..problem import Budget
from ..search import SolveConfig
from ..tasks import DEFAULT, TASKS
from ..tuning import Recipe
from ..utils import (
    SECTION,
    entry,
    parse_yaml,
    read_settings,
    refuse,
    settings_class,
    wrong_value,
)


@settings_class
class MeasureConfig:
    """How latency is measured."""

    engine: Annotated[StrictStr, entry("onnxruntime, openvino, tensorrt or torch")] = "onnxruntime"
    threads: Annotated[StrictInt, entry("threads of one inference", ge=1)] = 1
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"],
        entry("what the engine computes in: fp32, fp16, bf16 or int8, as it has them"),
    ] = "fp32"
    batch: Annotated[
        StrictInt | None, entry("images of one inference (default: as the input)", ge=1)
    ] = None
    probes: Annotated[
        StrictInt | None, entry("networks to time (default: as many as it takes)", ge=2)
    ] = None
    quick: Annotated[StrictBool, entry("measure a coarse table, soon")] = False
    library: Annotated[
        StrictStr | None,
        entry("folder of tables that networks share (default: this user's own; none: off)"),
    ] = None
    device: Annotated[
        StrictStr | None,
        entry(
            "where: bundle:DIR writes a folder to run there by hand, collect:DIR reads what came "
            "back; ssh:HOST, adb:SERIAL or a fleet's .yaml (default: here)"
        ),
    ] = None
    python: Annotated[
        StrictStr, entry("of a device elsewhere: its Python that has numpy and the engine")
    ] = "python3"
    tool: Annotated[
        StrictStr, entry("of a device elsewhere: the tool that --engine names, with options")
    ] = ""
    with_weights: Annotated[
        StrictBool, entry("ship weights in a bundle, which are made over there by default")
    ] = False


@settings_class
class RoundsConfig:
    """Pruning in rounds of score, solve and tune.

    Every round but the last divides the latency by the same factor on the way to the budget, and
    its network is repaired and tuned as section finetune says.
    """

    count: Annotated[
        StrictInt, entry("times to score, solve and tune on the way to the budget; 1: once", ge=1)
    ] = 1
    epochs: Annotated[StrictInt, entry("epochs of tuning between rounds", ge=0)] = 1
    images: Annotated[
        StrictInt | None,
        entry("training samples between rounds at most (default: as in finetune)", ge=1),
    ] = None


@settings_class
class FinetuneConfig(Recipe):
    """How the cut network is tuned: every setting of `Recipe`, and how long."""

    epochs: Annotated[
        StrictInt, entry("0: batch-norm statistics only, and none after a repair", ge=0)
    ] = 0
    repair: Annotated[
        StrictInt, entry("samples to refit cut layers on first (see `pruner.repair`); 0: off", ge=0)
    ] = 0
    images: Annotated[StrictInt | None, entry("training samples (default: all)", ge=1)] = None
    reference: Annotated[
        StrictBool, entry("give the dense network the same fine-tune, to compare with")
    ] = False

    @property
    def recipe(self) -> Recipe:
        """The settings alone."""
        names = [entry.name for entry in dataclasses.fields(Recipe)]
        return Recipe(**{name: getattr(self, name) for name in names})


def parse_shape(text: str) -> tuple[int, ...]:
    """Read ``1x3x224x224``."""
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        raise wrong_value("input", "a shape like 1x3x224x224", text) from None


def list_parts(submodule: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the parts that an entry submodule names, () for a whole model."""
    return (submodule,) if isinstance(submodule, str) else tuple(submodule or ())


def nest_entries(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"finetune.lr": 0.1}`` as ``{"finetune": {"lr": 0.1}}``."""
    found: dict[str, Any] = {}
    for path, value in pairs.items():
        *sections, name = path.split(".")
        where = found
        for section in sections:
            where = where.setdefault(section, {})
            if not isinstance(where, dict):
                raise wrong_value("--set", f"{section} or its entries", path)
        where[name] = value
    return found


def _read_input(value: Any) -> Any:
    """Read one shape, or what is said of every argument: texts, or names and texts."""
    if isinstance(value, Mapping):
        value = [f"{name}={text}" for name, text in value.items()]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not any(isinstance(one, str) for one in texts):
        return _read_list(value)
    if len(texts) == 1 and not {*":="}.intersection(texts[0]):
        return parse_shape(texts[0])
    return tuple(map(str, parse_specs(map(str, texts))))


def _check_input(
    value: tuple[int, ...] | tuple[str, ...] | None,
) -> tuple[int, ...] | tuple[str, ...] | None:
    sizes = [one for one in value or () if isinstance(one, int)]
    if value is not None and sizes and (len(sizes) < 2 or min(sizes) < 1):
        raise refuse("batch x channels x height x width, e.g. 1x3x224x224")
    return value


def _read_task(value: Any) -> Any:
    """Read a text in braces as YAML, so that a command may give a task's settings."""
    if isinstance(value, str) and value.strip().startswith("{"):
        try:
            return parse_yaml(value)
        except ValueError:
            raise refuse("a name, or {name: NAME, SETTING: VALUE}") from None
    return value


def _check_task(value: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    if isinstance(value, dict) and not isinstance(value.get("name"), str):
        raise refuse("a name, or name and the task's settings")
    return value


def _read_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _read_parts(value: Any) -> Any:
    """Return one part as a text, several as a tuple."""
    value = _read_list(value)
    if isinstance(value, tuple):
        if len({*map(str, value)}) < len(value):
            raise refuse("each one once")
        return value[0] if len(value) == 1 else value or None
    return value


def _read_budgets(value: Any) -> Any:
    return (value,) if isinstance(value, (str, int, float)) else _read_list(value)


def _read_budget(value: Any) -> Budget:
    if isinstance(value, str | Budget):
        return Budget.coerce(value)
    raise refuse("a text")


def _check_budgets(budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
    if len({budget.slug for budget in budgets}) < len(budgets):
        raise refuse("each one once")
    return budgets


WrittenBudget: TypeAlias = Annotated[
    Budget, BeforeValidator(_read_budget, json_schema_input_type=str), PlainSerializer(str)
]
"""A Budget in a class of settings or figures; a text in its file."""


@settings_class
class Config:
    """A whole run. Paths are relative to the folder that the command is called in."""

    model: Annotated[
        StrictStr,
        entry("timm:NAME, torchvision:NAME, hf:NAME, package.module:factory or demo:resnet20"),
    ]
    out: Annotated[
        StrictStr | None,
        entry("the folder of this run; each of several budgets gets one of its own below"),
    ] = None
    weights: Annotated[StrictStr | None, entry(".safetensors or .pth (default: random)")] = None
    pretrained: Annotated[
        StrictBool,
        entry("take the published weights, from the library's cache or fetched by it"),
    ] = False
    arguments: Annotated[
        dict[str, Any], entry("arguments of the model's factory or configuration")
    ] = field(default_factory=dict)
    input: Annotated[
        tuple[StrictInt, ...] | tuple[StrictStr, ...] | None,
        entry(
            "1x3x224x224, of the images where there are several (default: the model's own); or "
            "every argument by itself, [NAME=]SHAPE[:KIND] with KIND float, int (ids, up to the "
            "table's size), int<N, ones, zeros or true: input_ids=1x64:int mask=1x64:ones"
        ),
        AfterValidator(_check_input),
        BeforeValidator(
            _read_input, json_schema_input_type=list[int] | list[str] | dict[str, str] | str | None
        ),
    ] = None
    submodule: Annotated[
        StrictStr | tuple[StrictStr, ...] | None,
        entry("prune only this part of the model, e.g. a detector's backbone; several as one"),
        BeforeValidator(_read_parts, json_schema_input_type=str | list[str] | None),
    ] = None
    data: Annotated[
        StrictStr | None,
        entry(
            "image folder: train/CLASS/*.jpg and test/CLASS/*.jpg or val/; of other tasks what "
            "docs/tasks.md says"
        ),
    ] = None
    target_data: Annotated[
        StrictStr | None,
        entry("images without labels of another domain, for criteria that look at both: a folder, "
              "or package.module:factory"),
    ] = None  # fmt: skip
    task: Annotated[
        StrictStr | dict[str, Any] | None,
        entry(
            f"what the network is for: {', '.join(TASKS)} or package.module:factory, which gives a "
            f"pruner.Task; with settings '{{name: NAME, SETTING: VALUE}}' (default: "
            f"{DEFAULT.name})"
        ),
        AfterValidator(_check_task),
        BeforeValidator(_read_task, json_schema_input_type=str | dict[str, Any] | None),
    ] = None
    budgets: Annotated[
        tuple[WrittenBudget, ...],
        entry("50% (of dense), 12ms or 80fps, one or more"),
        AfterValidator(_check_budgets),
        BeforeValidator(_read_budgets, json_schema_input_type=list[str] | str),
    ] = ()
    seed: Annotated[StrictInt, entry("of all that is random", ge=0, le=2**63 - 1)] = 0
    measure: Annotated[MeasureConfig, entry("how latency is measured"), SECTION] = MeasureConfig()
    score: Annotated[ScoreConfig, entry("how importance is estimated"), SECTION] = ScoreConfig()
    solve: Annotated[SolveConfig, entry("how the structure is chosen"), SECTION] = SolveConfig()
    rounds: Annotated[RoundsConfig, entry("pruning in rounds"), SECTION] = RoundsConfig()
    finetune: Annotated[FinetuneConfig, entry("how the cut network is tuned"), SECTION] = (
        FinetuneConfig()
    )

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the model that are pruned, () for all of it."""
        return (self.submodule,) if isinstance(self.submodule, str) else self.submodule or ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with every default filled in, as run.json holds it."""
        return dataclasses.asdict(self) | {"budgets": tuple(map(str, self.budgets))}

    def with_changes(self, changes: Mapping[str, Any]) -> Config:
        """Return this configuration with some entries replaced; sections are merged."""
        content = self.to_dict()
        for key, value in changes.items():
            section = isinstance(value, Mapping) and isinstance(content.get(key), dict)
            # A task's settings belong to its name: another task has none of them.
            section = section and not (key == "task" and "name" in value)
            content[key] = {**content[key], **value} if section else value
        return Config.from_dict(content)

    @classmethod
    def from_dict(cls, content: Any, where: str = "") -> Config:
        """Read plain data; unknown keys and values of a wrong type are refused by name."""
        try:
            if isinstance(content, Mapping):
                content = dict(content)
            if isinstance(content, dict) and "budget" in content:
                if "budgets" in content:
                    raise wrong_value("budget", "budget or budgets", "both")
                content["budgets"] = [content.pop("budget")]
            return read_settings(cls, content)
        except PrunerError as error:
            raise PrunerError(f"{where}: {error}") if where else error from None

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> Config:
        """Read a configuration file."""
        if not Path(path).is_file():
            raise PrunerError(f"there is no configuration file {str(path)!r}")
        try:
            content = parse_yaml(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise PrunerError(f"{path}: not YAML of settings: {error}") from error
        return cls.from_dict(content, str(path))
