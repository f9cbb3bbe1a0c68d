"""What the steps of a run work on: the dense network, its trace, data, engine and latency table."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch

import latency_tables
from latency_tables import LatencyTable

from ..errors import PrunerError, TraceError, first_line
from ..graph import extract_logits
from ..models import (
    DenseModel,
    capture_arguments,
    find_submodule,
    list_submodules,
    load_model,
    resolve_name,
)
from ..utils import ProgressDisplay
from . import run_folder as names
from .config import Config
from .run_folder import RunFolder

if TYPE_CHECKING:
    from ..data import ImageData
    from ..structure import Network

VERSIONS = ("msprune", "torch", "onnxruntime", "openvino", "pyomo", "highspy", "numpy")


class Workspace:
    """Everything is made at first use and kept, so that several budgets share it.

    base is the RUN that holds the latency table and the importance; a step's own files are in its
    folder, which is base or lies right below it.
    """

    def __init__(self, base: RunFolder, config: Config, progress: ProgressDisplay) -> None:
        self.base, self.config, self.progress = base, config, progress

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], progress: ProgressDisplay
    ) -> tuple[Workspace, RunFolder, Config]:
        """The workspace of an existing RUN, that RUN, and the configuration it was last given."""
        folder = RunFolder(path)
        state = folder.state()
        base = RunFolder(folder.path.parent) if state.get("part_of_parent") else folder
        config = Config.from_dict(state["config"], str(folder / names.STATE))
        space = cls(base, config, progress)
        return space, folder, config

    @cached_property
    def dense(self) -> DenseModel:
        """The network as it was given; of the same weights as the RUN that it goes to."""
        config = self.config
        model = load_model(config.model, config.weights, config.seed, config.arguments)
        if self.base.exists:
            known = self.base.state()["identity"]
            if (known["model"], known["digest"]) != (model.name, model.digest):
                raise PrunerError(
                    f"{self.base.path} is a run of {known['model']} with weights "
                    f"{known['weights'] or 'at random'} ({known['digest'][:12]}), not of "
                    f"{model.name} with {model.weights or 'random weights'} "
                    f"({model.digest[:12]}): use another RUN"
                )
            if known.get("submodule") != config.submodule:
                raise PrunerError(
                    f"{self.base.path} is a run of --submodule {known.get('submodule')}, not of "
                    f"{config.submodule}: use another RUN"
                )
            if tuple(known["input"]) != self.shape(model):
                raise PrunerError(
                    f"{self.base.path} is a run with input {_shape(known['input'])}, not "
                    f"{_shape(self.shape(model))}: use another RUN"
                )
        return model

    def shape(self, model: DenseModel | None = None) -> tuple[int, ...]:
        """The shape of one input batch."""
        model, batch = model or self.dense, self.config.measure.batch
        if self.config.input is not None:
            return (batch or self.config.input[0], *self.config.input[1:])
        if model.preset.input_size is None:
            raise PrunerError(
                f"{model.name} does not say its input: give --input, e.g. --input 1x3x224x224"
            )
        return (batch or 1, *model.preset.input_size)

    @cached_property
    def net(self) -> Network:
        """The traced network, or the part of it that is to be pruned."""
        from ..structure import trace

        dense, shape, path = self.dense, self.shape(), self.config.submodule
        module, example, name = dense.module, dense.example(shape), dense.name
        if path is not None:
            example = capture_arguments(module, path, example)
            module, name = find_submodule(module, path), f"{name}, its {path}"
        try:
            with torch.no_grad():
                module(*example.args, **example.kwargs)
        except Exception as error:  # whatever the user's network raises
            raise PrunerError(
                f"{name} does not take an input of {_shape(shape)} (give --input): "
                f"{first_line(error, with_kind=False)}"
            ) from error
        try:
            return trace(module, example.args, example.kwargs, name=name)
        except TraceError as error:
            raise TraceError(f"{error} With --submodule NAME: {list_submodules(module)}") from error

    @cached_property
    def engine(self) -> latency_tables.Engine:
        """The engine that measures."""
        measure = self.config.measure
        return latency_tables.engine(
            measure.engine, threads=measure.threads, precision=measure.precision
        )

    @cached_property
    def data(self) -> ImageData:
        """The images; PrunerError where none were given, or the network does not classify them."""
        from ..data import open_images

        if self.config.data is None:
            raise PrunerError("this needs images: give --data DIR (train/CLASS/*.jpg, test/CLASS)")
        classes, preset, shape = self._classes(), self.dense.preset, self.shape()
        return open_images(
            self.config.data,
            (shape[2], shape[3]),
            outputs=classes,
            mean=preset.mean,
            std=preset.std,
            crop=preset.crop,
            interpolation=preset.interpolation,
        )

    def _classes(self) -> int:
        """The number of classes that the network tells apart in images."""
        name, shape, net = self.dense.name, self.shape(), self.net
        other = "Choose a criterion that needs no data, such as magnitude, and tune it in Python"
        if self.config.submodule is not None:
            raise PrunerError(
                f"{net.name}, is pruned without the rest, and has no loss of its own. {other}: "
                f"pruner.splice(model, {self.config.submodule!r}, pruner.load(RUN)) is the whole"
            )
        if len(shape) != 4 or shape[1] != 3 or len(net.inputs) != 1:
            raise PrunerError(
                f"images need one input of batch x 3 x height x width; {name} takes "
                f"{len(net.inputs)}, the first of {_shape(shape)}. {other}"
            )
        if net.fixed_batch is not None:
            raise PrunerError(
                f"{name} runs with a batch of {net.fixed_batch} only, as it was traced. {other}"
            )
        with torch.no_grad():
            results = net.module(net.inputs[0])
        try:
            scores = extract_logits(results)
        except PrunerError as error:
            raise PrunerError(f"{name} is no classifier: {error}. {other}") from None
        if scores.ndim != 2:
            raise PrunerError(
                f"{name} is no classifier: its scores are {_shape(scores.shape)}, not one row of "
                f"class scores an image. {other}"
            )
        return int(scores.shape[1])

    def table(self) -> LatencyTable:
        """The RUN's latency table; of this device, or LatencyError."""
        if not (self.base / names.LATENCY).is_file():
            raise PrunerError(
                f"{self.base.path} holds no finished latency table: "
                f"msprune measure {self.config.model} --out {self.base.path}"
            )
        device = self.engine.device.at_batch(self.shape()[0])
        return LatencyTable.load(self.base.path, device)

    def identity(self) -> dict[str, Any]:
        """What a RUN is of: another network's is refused."""
        dense = self.dense
        return {
            "model": dense.name,
            "weights": dense.weights,
            "digest": dense.digest,
            "input": list(self.shape()),
            "submodule": self.config.submodule,
        }

    def new_state(self, config: Config, part_of_parent: bool = False) -> dict[str, Any]:
        """The first run.json of a RUN."""
        return {
            "format": names.FORMAT,
            "config": resolve_paths(config).to_dict(),
            "identity": self.identity(),
            "device": str(self.engine.device.at_batch(self.shape()[0])),
            "versions": installed_versions(),
            "part_of_parent": part_of_parent,
            "budgets": [],
            "steps": {},
            "files": {},
        }


def resolve_paths(config: Config) -> Config:
    """With absolute paths, so that a later step may be called from another folder."""
    return replace(
        config,
        model=resolve_name(config.model),
        weights=os.path.abspath(config.weights) if config.weights else None,
        data=os.path.abspath(config.data) if config.data else None,
        out=None,  # a RUN may be moved
    )


def installed_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _shape(shape: Any) -> str:
    return "x".join(map(str, shape))
