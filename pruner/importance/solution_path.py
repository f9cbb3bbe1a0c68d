"""Solution paths: one search ranks all indices by when their masks enter (SPP)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ..data import Batch
from ..errors import PrunerError
from ..gates import find_gates, gate_network
from ..graph import evaluation_mode, find_device, move_to_device
from ..structure import Importance, Network
from ..tasks import Task
from ..utils import digest_json, digest_tensors, make_generator, read_tensors, write_tensors
from .base import Callback, Loss
from .divergence import run_batches
from .feature_maps import find_writing_cells
from .inclusion import MaskPath
from .network_criterion import NetworkCriterion

PathForm = Literal["coupled", "released"]
FORMS: tuple[str, ...] = get_args(PathForm)
STEPS, RATE, THRESHOLD, COUPLING = 600, 1e-3, 3.0, 1.0
PROBED, PROBES = 0.9, 4
SAVED_EVERY = 20
_KIND = "path"


class SolutionPath(NetworkCriterion):
    """The order in which masks of a network enter while they alone are trained.

    Every index of every Dim gets a mask, a gate through which the network reads it. Masks are
    trained by AdamW without decay on the task's loss, or where there is none on the divergence from
    the dense network; weights stay. A dual variable sums up each mask, and when that passes a
    threshold the index enters (`pruner.importance.inclusion`): one search ranks all indices, for
    every budget (arXiv 2501.03289). In the coupled form, the paper's, the loss holds a quadratic
    that draws each mask to its sparse copy, so that it shrinks unless the loss holds it; the form
    of the released code leaves that out.

    By entry times alone the path is one threshold for all Dims (``curves="own"``); by default its
    order counts, and what widths lose is measured along it.
    """

    name = "path"
    measured_curves = True

    def __init__(
        self, *, form: str = "coupled", steps: int = STEPS, lr: float = RATE,
        threshold: float = THRESHOLD, coupling: float = COUPLING, first_entry: float = 0.5,
        seed: int = 0, journal: Path | None = None,
    ) -> None:  # fmt: skip
        """Set how masks are searched.

        Args:
            form: ``"coupled"`` or ``"released"``.
            steps: Of the search, a batch each.
            lr: Of AdamW on the masks.
            threshold: What a dual must pass.
            coupling: Of the quadratic, ``coupling / 2 * |M - C|^2``, in units of the mean magnitude
                of the gradient where all masks are at `PROBED`: it means the same for any loss.
            first_entry: The share of the steps after which a mask that stays at one enters: it
                fixes the dual's rate, which in the paper is a constant of a search of its length.
            seed: Of the order of batches.
            journal: A folder that the search is kept in: killed, the same call continues.

        Raises:
            PrunerError: A form that is none, or numbers that are not above zero.
        """
        if form not in FORMS:
            raise PrunerError(f"path: form {form!r}: expected {' or '.join(FORMS)}")
        for name, value in (("steps", steps), ("lr", lr), ("threshold", threshold),
                            ("first_entry", first_entry)):  # fmt: skip
            if not value > 0:
                raise PrunerError(f"path: {name} {value}: expected a number above 0")
        self.form, self.steps, self.lr, self.threshold = form, steps, lr, threshold
        self.coupling = coupling if form == "coupled" else 0.0
        self.dual_rate = threshold / (first_entry * steps)
        self.seed, self.journal = seed, journal

    def score(
        self, net: Network, batches: Iterable[Batch], loss: Loss | None, progress: Callback = None,
        task: Task | None = None,
    ) -> Importance:  # fmt: skip
        """Search the path and rank all indices by it; see `NetworkCriterion.score`."""
        batches, task = list(batches), task or Task()
        if not batches:
            raise PrunerError(f"criterion {self.name!r}: batches are empty; give at least one")
        if loss is None and self.form == "released":
            raise PrunerError(
                "path: the released form needs a loss: without one, the dense network's own "
                "answers are best, and no mask ever moves; take the coupled form"
            )
        gated, dims = _gate_all(net)
        if not dims:
            return Importance(self.name, {})
        search = _Search(self, gated, dims, self._open_journal(net, dims, batches, task))
        with evaluation_mode(net.module):
            asked = _Question.state(net, batches, task, loss)
            for done in search.run(asked):
                if progress is not None:
                    progress(done, self.steps)
        scores = search.path.rank(self.threshold).numpy()
        parts, start = {}, 0
        for name in dims:
            size = net.dims[name].size
            parts[name] = _share_evenly(net, name, scores[start : start + size])
            start += size
        return Importance(self.name, parts)

    def _open_journal(
        self, net: Network, dims: list[str], batches: list[Batch], task: Task
    ) -> Path | None:
        """Return the file of this search: of these settings, network, batches and task."""
        if self.journal is None:
            return None
        settings = {k: v for k, v in vars(self).items() if k != "journal"}
        weights = digest_tensors(net.program.tensors, "{name} {dtype} {shape}")
        inputs = [[list(x.shape) for x in _list_tensors(batch)] for batch in batches]
        key = digest_json([settings, dims, weights, inputs, task.name, dict(task.settings())])
        return self.journal / f"path-{key[:16]}.safetensors"


@dataclass(frozen=True)
class _Question:
    """What the masks are trained on."""

    batches: list[Batch]
    task: Task
    loss: Loss | None
    dense: list[Any]

    @classmethod
    def state(cls, net: Network, batches: list[Batch], task: Task, loss: Loss | None) -> _Question:
        """Run the dense network where its answers are what counts."""
        dense = [] if loss is not None else list(run_batches(net.module, batches, task))
        return cls(batches, task, loss, dense)

    def compute_loss(self, module: nn.Module, number: int) -> Tensor:
        """Return the loss of a batch, or its divergence from dense."""
        inputs, targets = move_to_device(self.batches[number], find_device(module))
        outputs = self.task.forward(module, inputs, targets)
        if self.loss is not None:
            return self.loss(outputs, targets)
        return self.task.divergence(outputs, self.dense[number]).mean


class _Search:
    """Masks, their optimizer and their path, kept in a file as they go."""

    def __init__(
        self, rule: SolutionPath, gated: fx.GraphModule, dims: list[str], file: Path | None
    ) -> None:
        self.rule, self.gated, self.file = rule, gated.eval().requires_grad_(False), file
        gates = find_gates(gated).dims
        self.masks: list[Tensor] = [gates[name].requires_grad_(True) for name in dims]
        self.optimizer = torch.optim.AdamW(self.masks, rule.lr, weight_decay=0.0)
        self.path = MaskPath.begin(sum(len(mask) for mask in self.masks))
        self.strength = 0.0  # of the quadratic; from the first step on
        self._load()

    def run(self, asked: _Question) -> Iterator[int]:
        """Do the steps that are left, and yield their numbers."""
        rule, epoch = self.rule, -1
        order: list[int] = []
        for step in range(self.path.step, rule.steps):
            if step // len(asked.batches) != epoch:
                epoch = step // len(asked.batches)
                rng = make_generator("path", rule.seed, epoch)
                order = torch.randperm(len(asked.batches), generator=rng).tolist()
            if step == 0 and rule.coupling:
                self.strength = rule.coupling * self._probe(asked, order[:PROBES])
            value = asked.compute_loss(self.gated, order[step % len(order)])
            if not bool(value.isfinite()):
                raise PrunerError("path: the loss is not finite (a diverged network?)")
            self._move_masks(value)
            self.path = self.path.advance(_join(self.masks), rule.dual_rate, rule.threshold)
            if (step + 1) % SAVED_EVERY == 0 or step + 1 == rule.steps:
                self._save()
            yield step + 1

    def _differentiate(self, value: Tensor) -> list[Tensor]:
        """Return the gradient by every mask, zeros where the loss does not depend on one."""
        if not value.requires_grad:
            return [torch.zeros_like(mask) for mask in self.masks]
        found = torch.autograd.grad(value, self.masks, allow_unused=True)
        return [
            torch.zeros_like(m) if g is None else g for m, g in zip(self.masks, found, strict=True)
        ]

    def _probe(self, asked: _Question, numbers: list[int]) -> float:
        """Return the mean magnitude of batches' gradients where all masks are at `PROBED`."""
        with torch.no_grad():
            for mask in self.masks:
                mask.fill_(PROBED)
        found = [self._differentiate(asked.compute_loss(self.gated, k)) for k in numbers]
        with torch.no_grad():
            for mask in self.masks:
                mask.fill_(1.0)
        return float(np.mean([float(_join(one).abs().mean()) for one in found]))

    def _move_masks(self, value: Tensor) -> None:
        """Take a step of AdamW on the loss and the quadratic."""
        gradients = self._differentiate(value)
        copies = self.path.sparse.split([len(mask) for mask in self.masks])
        for mask, gradient, copied in zip(self.masks, gradients, copies, strict=True):
            mask.grad = gradient + self.strength * (mask.detach() - copied.to(mask))
        self.optimizer.step()

    def _save(self) -> None:
        if self.file is None:
            return
        states = [self.optimizer.state[mask] for mask in self.masks]
        tensors = {
            "masks": _join(self.masks), "dual": self.path.dual, "sparse": self.path.sparse,
            "entry": self.path.entry, "mean": _join([s["exp_avg"] for s in states]),
            "square": _join([s["exp_avg_sq"] for s in states]),
        }  # fmt: skip
        write_tensors(
            self.file, _KIND, tensors, {"step": self.path.step, "strength": self.strength}
        )

    @torch.no_grad()
    def _load(self) -> None:
        """Go on where a search of the same was left; one that cannot be read is begun anew."""
        if self.file is None or not self.file.is_file():
            return
        try:
            found, notes = read_tensors(self.file, _KIND)
        except PrunerError:
            return
        sizes = [len(mask) for mask in self.masks]
        parts = {name: found[name].split(sizes) for name in ("masks", "mean", "square")}
        for k, mask in enumerate(self.masks):
            mask.copy_(parts["masks"][k])
            self.optimizer.state[mask] = {
                "step": torch.tensor(float(notes["step"])),
                "exp_avg": parts["mean"][k].to(mask, copy=True),
                "exp_avg_sq": parts["square"][k].to(mask, copy=True),
            }
        self.path = MaskPath(found["dual"], found["sparse"], found["entry"], int(notes["step"]))
        self.strength = float(notes["strength"])


def _join(parts: Iterable[Tensor]) -> Tensor:
    """Return the numbers of all masks one after the other, float64 on the CPU."""
    return torch.cat([part.detach().double().cpu() for part in parts])


def _gate_all(net: Network) -> tuple[fx.GraphModule, list[str]]:
    """Return a network with gates on all Dims that can have them, and these."""
    try:
        return gate_network(net, blocks=()), list(net.dims)
    except PrunerError:
        able = [name for name in net.dims if _takes_gates(net, name)]
    return gate_network(net, able, ()), able


def _takes_gates(net: Network, name: str) -> bool:
    try:
        gate_network(net, [name], ())
    except PrunerError:
        return False
    return True


def _share_evenly(
    net: Network, name: str, scores: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Share a Dim's scores out among the Cells that write it: Blocks then hold their part."""
    cells = [located.cell.name for located in find_writing_cells(net, net.dims[name])] or [""]
    return {cell: scores / len(cells) for cell in cells}


def _list_tensors(batch: Batch) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(batch) if isinstance(x, Tensor)]
