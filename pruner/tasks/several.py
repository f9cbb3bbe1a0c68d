"""Several: a task of named tasks over one network, with weighted losses and a metric each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import StrictInt, StrictStr
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..data import TaskData, TurnsData, count_samples, join_data
from ..errors import PrunerError
from ..graph import find_device
from ..utils import entry, is_object_name, settings_class, suggest_names
from .base import Task, to_call
from .divergence import describe_shapes
from .metric import GroupMetric, MeanMetric, Metric, MetricKind
from .mixup import Mixture
from .pick import pick_output
from .records import to_record
from .request import TaskRequest
from .total import Total


@settings_class
class SeveralSettings:
    """What a task of tasks may be told."""

    tasks: Annotated[
        dict[str, StrictStr | dict[str, Any]],
        entry("the tasks by name, each with its settings, and data where it has a set of its own"),
    ]
    weights: Annotated[
        dict[str, float], entry("of the tasks' losses and divergences by name (default: 1)")
    ] = field(default_factory=dict)
    outputs: Annotated[
        dict[str, StrictStr | StrictInt],
        entry("which of the network's outputs, by name or number, each task gets (default: that "
              "of its name, or of its place where there are as many as tasks, or all)"),
    ] = field(default_factory=dict)  # fmt: skip
    main: Annotated[
        StrictStr | None, entry("the task whose metric counts first (default: the first)")
    ] = None


class Several(Task):
    """Tasks by name; targets are a dict of those that a batch has.

    Every task looks at its own of the network's outputs. A batch may lack the targets of some:
    their losses and metrics do not see it, while divergences are of all outputs.

    Attributes:
        tasks: By name, the main one first.
    """

    name = "several"

    def __init__(
        self,
        tasks: Mapping[str, Task],
        data: TaskData | None = None,
        *,
        weights: Mapping[str, float] | None = None,
        outputs: Mapping[str, str | int] | None = None,
        main: str | None = None,
    ) -> None:
        """Take the tasks, and batches of (inputs, targets by name); see `SeveralSettings`.

        Raises:
            PrunerError: There is no task, or what is said is of a name that none has.
        """
        if not tasks:
            raise PrunerError("task several: no tasks; say them by name in its settings")
        said: dict[str, Iterable[str]] = {"weights": weights or {}, "outputs": outputs or {}}
        said["main"] = () if main is None else (main,)
        for what, names in said.items():
            for name in names:
                if name not in tasks:
                    hint = suggest_names(name, tasks, 1, 0.6) or f"they are {', '.join(tasks)}"
                    raise PrunerError(f"task several: {what} names no task: {name!r} ({hint})")
        first = main or next(iter(tasks))
        self.tasks = {first: tasks[first], **tasks}
        self.places = {name: k for k, name in enumerate(tasks)}
        self.data, self.weights, self.outputs = data, dict(weights or {}), dict(outputs or {})

    @classmethod
    def open(cls, request: TaskRequest) -> Several:
        """Open every task on its output, and its data: its own, or the common one."""
        settings = request.read_settings(SeveralSettings)
        plain = cls(
            {name: Task() for name in settings.tasks}, weights=settings.weights,
            outputs=settings.outputs, main=settings.main,
        )  # fmt: skip
        opened, paths = {}, {}
        for name, choice in settings.tasks.items():
            own = dict(choice) if isinstance(choice, dict) else {"name": choice}
            path = own.pop("data", None)
            paths[name] = path or request.data or ""
            part = request.take_output(partial(plain.pick, name), path)
            try:
                opened[name] = request.open_other(own, part)
            except PrunerError as error:
                raise PrunerError(f"task {name}: {error}") from error
        made = cls(opened, weights=settings.weights, outputs=settings.outputs, main=settings.main)
        return made.with_data(_join_groups(opened, paths))

    def take(self, *names: str) -> Several:
        """Return the same with some of its tasks alone, on the same data."""
        some = Several(
            {name: self.tasks[name] for name in names}, self.data,
            weights={k: v for k, v in self.weights.items() if k in names},
            outputs={k: v for k, v in self.outputs.items() if k in names},
        )  # fmt: skip
        some.places = self.places  # the network returns as many outputs as before
        some.target = self.target
        return some

    def split(self) -> dict[str, Task]:
        """Return every task by itself: the same with that one alone."""
        return {name: self.take(name) for name in self.tasks}

    def settings(self) -> Mapping[str, Any]:
        """Return the tasks with their settings, the main one and their order, and the rest."""
        tasks = {name: [task.name, dict(task.settings())] for name, task in self.tasks.items()}
        return {
            "tasks": tasks, "order": [next(iter(self.tasks)), *self.places],
            "weights": dict(self.weights), "outputs": dict(self.outputs),
        }  # fmt: skip

    def pick(self, name: str, results: Any) -> Any:
        """Return what a task gets of the network's results."""
        results = to_record(results)
        if name in self.outputs:
            return pick_output(results, self.outputs[name])
        if isinstance(results, Mapping):
            return results.get(name, results)
        if isinstance(results, list | tuple) and len(results) == len(self.places):
            return results[self.places[name]]
        return results

    @property
    def calls_once(self) -> bool:
        """True: one call answers all tasks."""
        return True

    def forward(self, module: nn.Module, inputs: Any, targets: Any = None) -> dict[str, Any]:
        """Call a network on a batch and return each task's outputs by name."""
        args, kwargs = to_call(inputs, find_device(module))
        results = module(*args, **kwargs)
        return {
            name: task.complete([self.pick(name, results)], inputs)
            for name, task in self.tasks.items()
        }

    @property
    def has_loss(self) -> bool:
        """Whether one of the tasks has."""
        return any(task.has_loss for task in self.tasks.values())

    def loss(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return the losses of the tasks whose targets are there, by name."""
        return self._list_losses(outputs, targets, 0.0)

    def _list_losses(self, outputs: Any, targets: Any, smoothing: float) -> dict[str, Tensor]:
        found = {
            name: task.mean_loss(outputs[name], targets[name], smoothing)
            for name, task in self.tasks.items()
            if task.has_loss and name in targets
        }
        if found:
            return found
        first = next(x for x in pytree.tree_leaves(outputs) if isinstance(x, Tensor))
        return {"": 0 * first.sum()}

    def mean_loss(self, outputs: Any, targets: Any, smoothing: float = 0.0) -> Tensor:
        """Return the weighted sum of the losses."""
        return self._sum(self._list_losses(outputs, targets, smoothing))

    def total_loss(self, outputs: Any, targets: Any) -> Total | None:
        """Return the weighted sum of the losses, as often as there are samples."""
        parts = {}
        for name, task in self.tasks.items():
            found = task.total_loss(outputs[name], targets[name]) if name in targets else None
            if found is not None:
                parts[name] = found.mean
        if not parts:
            return None
        count = count_samples(targets) or count_samples(outputs)
        return Total(count * self._sum(parts), count)

    def mix_targets(self, targets: Any, outputs: Any, mixture: Mixture) -> Any:
        """Mix each task's targets in its own way."""
        return {
            name: self.tasks[name].mix_targets(some, outputs[name], mixture)
            for name, some in targets.items()
        }

    def divergence(self, outputs: Any, dense: Any, temperature: float = 1.0) -> Total:
        """Return the weighted sum of the tasks' mean divergences, as often as there are samples."""
        parts = {
            name: task.divergence(outputs[name], dense[name], temperature).mean
            for name, task in self.tasks.items()
        }
        count = count_samples(dense)
        return Total(count * self._sum(parts), count)

    def _sum(self, parts: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([self.weights.get(name, 1.0) * x for name, x in parts.items()]).sum()

    def metric(self) -> Metric:
        """Return the metrics of all tasks, the main one's first."""
        return SeveralMetric({name: task.judge() for name, task in self.tasks.items()})

    def check(self, outputs: Any, targets: Any) -> None:
        """Refuse targets that are no dict by the tasks' names, or do not fit a task's outputs."""
        if not isinstance(targets, Mapping) or not targets or not {*targets} <= {*self.tasks}:
            raise PrunerError(
                f"targets {describe_shapes(targets)}: expected a dict by the tasks' names, "
                f"{', '.join(self.tasks)}, or of some of them"
            )
        for name, some in targets.items():
            try:
                self.tasks[name].check(outputs[name], some)
            except PrunerError as error:
                raise PrunerError(f"task {name}: {error}") from error


class SeveralMetric(GroupMetric):
    """A metric for every task, of which the first is the main one; each under its task's name."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        """Take the metrics by the tasks' names, the main one first."""
        super().__init__([*metrics.values()])
        self.named = dict(metrics)
        self.needs_dense = any(metric.needs_dense for metric in self.metrics)
        self.kind = self.kinds[0]

    @property
    def kinds(self) -> tuple[MetricKind, ...]:
        """Of all tasks."""
        return tuple(
            name_kind(name, kind) for name, metric in self.named.items() for kind in metric.kinds
        )

    def add(self, outputs: Any, targets: Any, dense: Any = None) -> None:
        """Add a batch to the metrics of those tasks whose targets it has, or that need none."""
        for name, metric in self.named.items():
            if metric.needs_dense:
                metric.add(outputs[name], None, dense[name])
            elif name in targets:
                metric.add(outputs[name], targets[name])

    def update(self, outputs: Any, targets: Any) -> None:
        """Add a batch that needs no dense outputs."""
        self.add(outputs, targets)

    def compute_all(self) -> Mapping[MetricKind, float]:
        """Compute all."""
        return {
            name_kind(name, kind): value
            for name, metric in self.named.items()
            for kind, value in metric.compute_all().items()
        }

    @property
    def running(self) -> MeanMetric | None:
        """None: batches need not have the main task's targets."""
        return None


def name_kind(name: str, kind: MetricKind) -> MetricKind:
    """Return what a task's metric means among others: under the task's name."""
    return replace(kind, name=f"{name} {kind.name}")


def _join_groups(tasks: Mapping[str, Task], paths: Mapping[str, str]) -> TaskData:
    """Return the data of all tasks: those of one path joined, and different paths in turn."""
    groups: dict[str, list[str]] = {}
    for name, path in paths.items():
        groups.setdefault(path or f" {name}", []).append(name)  # without one: a factory's own
    parts: dict[tuple[str, ...], TaskData] = {}
    for path, names in groups.items():
        sets = {name: tasks[name].require_data() for name in names}
        first = sets[names[0]]
        joined = len(names) == 1 or is_object_name(path)  # a factory joins them itself
        parts[tuple(names)] = first if joined else join_data(sets, path)
    if len(parts) > 1:
        return TurnsData(parts)
    whole, data = next(iter(parts.items()))
    return data if len(whole) > 1 else TurnsData(parts)
