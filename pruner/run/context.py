"""What the steps of a run work on: the dense network, its trace, task, engine and latency table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils import _pytree as pytree

import latency_tables
from latency_tables import LatencyTable

from ..data import TaskData
from ..errors import PrunerError
from ..graph import evaluation_mode
from ..importance import needs_target
from ..models import (
    DenseModel,
    Example,
    Host,
    PartTask,
    describe_weights,
    load_model,
    resolve_name,
)
from ..problem import RESOURCES, Budget, split_limit
from ..structure import Network
from ..tasks import Task, TaskRequest, open_task
from ..utils import ProgressDisplay, SilentProgress, digest_file, is_object_name
from . import run_folder as names
from .cache_keys import CacheKeys
from .config import Config
from .elsewhere import open_engine, resolve_device
from .model_input import ModelInput, describe_input
from .run_folder import RunFolder
from .tracing import PartCall, find_calls, join_calls, read_parts, trace_calls

VERSIONS = ("msprune", "torch", "onnxruntime", "openvino", "pyomo", "highspy", "numpy")

T = TypeVar("T")


@dataclass(frozen=True)
class Workspace:
    """A RUN under one configuration, with the network, task and engine that its steps share.

    What takes time is made at first use and kept, for the workspaces of other budgets too.

    Attributes:
        base: The RUN that holds the latency table and the importance.
        folder: Where a budget's own files are: base, or a folder right below it.
        config: What the run is asked to do.
        progress: Where steps say what they do.
    """

    base: RunFolder
    folder: RunFolder
    config: Config
    progress: ProgressDisplay
    _made: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def begin(cls, config: Config, progress: ProgressDisplay | None = None) -> Workspace:
        """Return the workspace of the RUN ``config.out``, which need not exist yet."""
        base = RunFolder(config.out or "")
        return cls(base, base, config, progress or SilentProgress())

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        changes: Mapping[str, Any] | None = None,
        progress: ProgressDisplay | None = None,
    ) -> Workspace:
        """Return the workspace of an existing RUN, its last configuration changed."""
        folder = RunFolder(path)
        state, base = folder.read_state(), find_base(folder)
        config = Config.from_dict(state["config"], str(folder / names.STATE))
        config = resolve_paths(config.with_changes(changes or {}))
        return cls(base, folder, config, progress or SilentProgress())

    def with_config(self, config: Config) -> Workspace:
        """Return this workspace under another configuration of the same network and data."""
        return replace(self, config=config)

    def with_budget(self, budget: Budget) -> Workspace:
        """Return the workspace of one of several budgets, its folder begun if need be."""
        folder = RunFolder(self.base / budget.slug)
        space = replace(self, folder=folder, config=replace(self.config, budgets=(budget,)))
        if not folder.exists:
            folder.write_state(space.make_state())
        if folder.path.name not in self.base.read_state()["budgets"]:
            with self.base.edit_state() as state:
                state["budgets"].append(folder.path.name)
        return space

    def _make_once(self, name: str, make: Callable[[], T]) -> T:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @property
    def dense(self) -> DenseModel:
        """The network as it was given."""
        c = self.config
        return self._make_once(
            "dense", lambda: load_model(c.model, c.weights, c.seed, c.arguments, c.pretrained)
        )

    @property
    def input(self) -> ModelInput:
        """What the whole model is called with."""
        return ModelInput.find(self.config, self.dense)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one batch of the main input."""
        return self.input.shape

    @property
    def example(self) -> Example:
        """The arguments of a call of the whole model."""
        return self._make_once("example", lambda: self.input.make(self.dense))

    @property
    def net(self) -> Network:
        """The traced network, or the part of it that is to be pruned."""
        return self._make_once("net", self._trace)

    @property
    def engine(self) -> latency_tables.Engine:
        """The engine that measures."""
        return self._make_once("engine", lambda: open_engine(self.config.measure))

    @property
    def has_task(self) -> bool:
        """Whether there are data, or a task that may bring its own."""
        return self.config.data is not None or self.config.task is not None

    @property
    def task(self) -> Task:
        """What the network is for, with its data; PrunerError where that is not known."""
        return self._make_once("task", self._open_task)

    @property
    def data(self) -> TaskData:
        """The training and test samples."""
        return self.task.require_data()

    @property
    def keys(self) -> CacheKeys:
        """The cache keys of the steps."""
        second = self._digest_target if needs_target(self.config.score.criterion) else None
        return CacheKeys(self.config, lambda: self.task.fingerprint(), self._digest_tables, second)

    def check_identity(self) -> None:
        """Raise PrunerError where the RUN is of another network, weights, part or input."""
        if not self.base.exists:
            return
        known, model = self.base.read_state()["identity"], self.dense
        if (known["model"], known["digest"]) != (model.name, model.digest):
            sides = (
                (known["model"], known["weights"], known["digest"]),
                (model.name, model.weights, model.digest),
            )
            other, own = (
                f"of {name} with weights {describe_weights(name, weights)} ({digest[:12]})"
                for name, weights, digest in sides
            )
        elif read_parts(known) != self.config.parts:
            other = f"of --submodule {', '.join(read_parts(known)) or None}"
            own = f"of {', '.join(self.config.parts) or None}"
        elif tuple(known["input"]) != self.input.identity:
            other = f"with input {describe_input(known['input'])}"
            own = str(self.input)
        else:
            return
        raise PrunerError(f"{self.base.path} is a run {other}, not {own}: use another RUN")

    def _digest_tables(self) -> list[str]:
        runs = [split_limit(text)[0] for text in self.config.solve.also]
        return [digest_file(RunFolder(r) / names.LATENCY) for r in runs if r not in RESOURCES]

    def _digest_target(self) -> str:
        target = self.task.target if self.has_task else None
        return "" if target is None else target.fingerprint()

    def check_engine(self) -> None:
        """Raise an error where the engine is not known or not installed."""
        _ = self.engine

    def check_data(self) -> None:
        """Raise PrunerError where a task or data were given that the network cannot be run on."""
        if self.has_task:
            _ = self.data

    def load_table(self) -> LatencyTable:
        """Read the RUN's latency table; of this device, or LatencyError."""
        if not (self.base / names.LATENCY).is_file():
            raise PrunerError(
                f"{self.base.path} holds no finished latency table: "
                f"msprune measure {self.config.model} --out {self.base.path}"
            )
        device = self.engine.device.at_batch(self.input_shape[0])
        return LatencyTable.load(self.base.path, device)

    def make_state(self) -> dict[str, Any]:
        """Return the first run.json of the folder, with the identity that others are refused by."""
        dense = self.dense
        return {
            "format": names.FORMAT,
            "config": resolve_paths(self.config).to_dict(),
            "identity": {
                "model": dense.name,
                "weights": dense.weights,
                "digest": dense.digest,
                "input": list(self.input.identity),
                "submodule": self.config.submodule,
            },
            "device": str(self.engine.device.at_batch(self.input_shape[0])),
            "versions": find_versions(),
            "part_of_parent": self.folder is not self.base,
            "budgets": [],
            "steps": {},
            "files": {},
        }

    def find_call(self) -> Example:
        """Return the arguments that the network is called with, or its part: of several, joined.

        Raises:
            PrunerError: It does not take an input of the RUN's shape.
        """
        return join_calls(self._find_calls())

    def _find_calls(self) -> dict[str, PartCall]:
        return find_calls(self.dense, self.example, str(self.input), self.config.parts)

    def _trace(self) -> Network:
        return trace_calls(self._find_calls(), self.dense.name)

    def _open_task(self) -> Task:
        config, dense, net, preset = self.config, self.dense, self.net, self.dense.preset
        if not self.has_task:
            raise PrunerError("this needs data: give --data DIR, or --task package.module:factory")
        example = self.example
        request = TaskRequest(
            dense.name,
            lambda: _run_whole(dense.module, example),
            tuple(pytree.tree_leaves((example.args, example.kwargs))),
            self.input_shape, config.data, {}, tuple(preset.mean), tuple(preset.std),
            preset.crop, preset.interpolation, tuple(example.kwargs), dense.folder,
            config.target_data, model=dense.module,
        )  # fmt: skip
        task = open_task(config.task, request)
        if config.parts:
            task = PartTask(task, Host(dense.module, *config.parts))
        if net.fixed_batch is not None:
            raise PrunerError(
                f"{net.name} runs with a batch of {net.fixed_batch} only, as it was traced. "
                "Choose a criterion that needs no data, such as magnitude, and tune it in Python"
            )
        return task


def _run_whole(module: nn.Module, example: Example) -> Any:
    with torch.no_grad(), evaluation_mode(module):
        return module(*example.args, **example.kwargs)


@contextmanager
def open_run(
    run: str | os.PathLike[str] | Workspace,
    changes: Mapping[str, Any] | None = None,
    progress: ProgressDisplay | None = None,
    lock: bool = True,
    shared: bool = False,
) -> Iterator[Workspace]:
    """Open a RUN, its configuration changed, and keep other commands out of it meanwhile.

    A Workspace is yielded as it is: whoever opened it keeps the others out.

    Args:
        run: The folder; of one of several budgets its own.
        changes: Entries of the configuration.
        progress: Where the steps say what they do.
        lock: Whether others are kept out: not by further processes of one command.
        shared: Whether steps of other budgets may run meanwhile: those that write no table.
    """
    if isinstance(run, Workspace):
        yield run
        return
    folder = RunFolder(run)
    base = find_base(folder)  # refuses what is no RUN before a lock is put there
    with ExitStack() as held:
        if lock and base is not folder and not shared:
            held.enter_context(base.lock())
        if lock:
            held.enter_context(folder.lock())
        yield Workspace.open(run, changes, progress)  # as the last command left it


def find_base(folder: RunFolder) -> RunFolder:
    """Return the folder that holds the table of a RUN: of one of several budgets, its parent."""
    part = folder.read_state().get("part_of_parent")
    if not part:
        return folder
    path = folder.path if folder.path.name not in ("", "..") else folder.path.resolve()
    return RunFolder(path.parent)


def resolve_paths(config: Config) -> Config:
    """Return it with absolute paths, so that a later step may be called from another folder."""
    also = []
    for text in config.solve.also:
        name, amount = split_limit(text)
        known = name in RESOURCES or not amount
        also.append(text if known else f"{os.path.abspath(name)}={amount}")
    return replace(
        config,
        solve=replace(config.solve, also=tuple(also)),
        measure=replace(config.measure, device=resolve_device(config.measure.device)),
        model=resolve_name(config.model, config.pretrained),
        weights=os.path.abspath(config.weights) if config.weights else None,
        data=_resolve_data(config.data),
        target_data=_resolve_data(config.target_data),
        out=None,  # a RUN may be moved
    )


def _resolve_data(name: str | None) -> str | None:
    return os.path.abspath(name) if name and not is_object_name(name) else name


def find_versions() -> dict[str, str]:
    """Return the versions of what the numbers depend on."""
    found = {}
    for name in VERSIONS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
