"""What is asked of a pruned network in ``benchmarks.features``, whichever tool left it.

The oracle needs no word of the tool: every value of the dense network's tensors is distinct, so the
values that are left say which positions stay. The dense network with all others at zero, and its
layer normalizations taken over what stays, must then give the same answers.
"""

import copy
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tools import Pruned, count_macs, explain

CLOSE = 1e-3
ONNX: dict[str, Any] = {"dynamo": True, "verbose": False}
PROGRAMS: list[Any] = []
"""What torch.export made last in this process, for ONNX to begin with."""


def stamp(model: nn.Module, seed: int) -> nn.Module:
    """Give every floating tensor distinct values, of about the mean and spread that it has."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in name_tensors(model):
            n = tensor.numel()
            mean = float(tensor.float().mean())
            spread = float(tensor.float().std()) if n > 1 else 0.0
            spread = max(spread, 0.1 * abs(mean), 0.01)
            grid = (torch.randperm(n, generator=rng).double() + 0.5) / n - 0.5
            values = mean + spread * 12**0.5 * grid
            if name.endswith("running_var"):
                values = 1 + grid
            tensor.copy_(values.view(tensor.shape))
    return model.eval()


def name_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and floating buffers that a state_dict holds."""
    held = model.state_dict(keep_vars=True)
    for name, tensor in held.items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.numel():
            yield name, tensor


def find_kept(dense: nn.Module, small: nn.Module) -> dict[str, Tensor] | str:
    """Return what stays of every tensor as truth values; or why that cannot be told."""
    left = dict(name_tensors(small))
    kept: dict[str, Tensor] = {}
    for name, tensor in name_tensors(dense):
        if name not in left:
            return f"no tensor {name}"
        owner = name.rpartition(".")[0]
        if "running_" in name and f"{owner}.weight" in kept:
            kept[name] = kept[f"{owner}.weight"]  # its values may have been measured anew
            continue
        mask = np.isin(tensor.detach().numpy(), left[name].detach().numpy())
        if mask.sum() != left[name].numel():
            return f"{name} holds other values"
        kept[name] = torch.from_numpy(mask)
    return kept


def silence_positions(dense: nn.Module, kept: dict[str, Tensor], small: nn.Module) -> nn.Module:
    """Return the dense network with what does not stay at zero, and the other's statistics."""
    masked = copy.deepcopy(dense)
    statistics = dict(name_tensors(small))
    with torch.no_grad():
        weights = dict(name_tensors(dense))
        for name, tensor in name_tensors(masked):
            tensor.mul_(kept[name])
            owner = name.rpartition(".")[0]
            if "running_" in name and f"{owner}.weight" in kept:
                # Channels may have changed places: each is found by its weight.
                place = {value: i for i, value in enumerate(weights[f"{owner}.weight"].tolist())}
                own = statistics[f"{owner}.weight"].tolist()
                tensor[[place[value] for value in own]] = statistics[name]
    for name, module in masked.named_modules():
        if isinstance(module, nn.LayerNorm) and not kept[f"{name}.weight"].all():
            places = kept[f"{name}.weight"].nonzero()[:, 0]
            forward = _NormOfPlaces(module, places, 1 if "2d" in type(module).__name__ else -1)
            setattr(module, "forward", forward)  # noqa: B010 - an object in a method's place
    return masked


class _NormOfPlaces:
    """A layer normalization over some positions of its axis; the others are zero."""

    def __init__(self, module: nn.LayerNorm, places: Tensor, axis: int) -> None:
        self.module, self.places, self.axis = module, places, axis

    def __call__(self, x: Tensor) -> Tensor:
        own, y = self.module, x.movedim(self.axis, -1)
        weight, bias = own.weight[self.places], own.bias[self.places]
        result = torch.zeros_like(y)
        shape = (len(self.places),)
        result[..., self.places] = F.layer_norm(y[..., self.places], shape, weight, bias, own.eps)
        return result.movedim(-1, self.axis)


def compare(got: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    if got.shape != expected.shape:
        raise ValueError(f"shape {tuple(got.shape)}, dense {tuple(expected.shape)}")
    return float((got - expected).abs().max() / expected.abs().max())


def judge(difference: float) -> str:
    """Say whether answers are equal to rounding."""
    return f"{difference:.0e}" if difference < CLOSE else f"differs by {difference:.2g}"


Answer = tuple[str, Any]


def check_all(dense: nn.Module, pruned: Pruned, inputs: dict[str, Tensor]) -> Iterator[Answer]:
    """Yield name and answer of every check; an answer that begins with "no:" is a failure.

    inputs: "traced", and others by name, as "another batch".
    """
    small = pruned.model.eval()
    x = inputs["traced"]
    with torch.no_grad():
        wanted = dense(x)
        try:
            if small(x).shape != wanted.shape:
                raise ValueError(f"answers {tuple(small(x).shape)}, not {tuple(wanted.shape)}")
        except Exception as error:
            yield "runs", f"no: {explain(error)}"
            return
    yield "runs", "yes"
    mine = type(small) is type(dense)
    yield "own class", "yes" if mine else f"no: {type(small).__mro__[1].__name__}"
    yield "params", round(count(small) / count(dense), 3)
    yield "macs", round(count_macs(small, x) / count_macs(dense, x), 3)
    kept = find_kept(dense, small)
    masked = silence_positions(dense, kept, small) if isinstance(kept, dict) else None
    for name, values in inputs.items():
        yield from _check_input(name, values, dense, small, masked)
    if isinstance(kept, str):
        yield "oracle", f"- {kept}"
    for name, check in CHECKS.items():
        try:
            yield name, check(pruned, small, x)
        except Exception as error:
            yield name, f"no: {explain(error)}"


def _check_input(
    name: str, x: Tensor, dense: nn.Module, small: nn.Module, masked: nn.Module | None
) -> Iterator[Answer]:
    with torch.no_grad():
        try:
            shape = dense(x).shape
        except Exception:
            yield name, "- dense refuses it"
            return
        try:
            got = small(x)
            if got.shape != shape:
                raise ValueError(f"answers {tuple(got.shape)}, not {tuple(shape)}")
        except Exception as error:
            yield name, f"no: {explain(error)}"
            return
        yield name, "runs"
        if masked is not None:
            key = "oracle" if name == "traced" else f"oracle, {name}"
            yield key, judge(compare(got, masked(x)))


def count(model: nn.Module) -> int:
    """Count parameters."""
    return sum(p.numel() for p in model.parameters())


def check_training(pruned: Pruned, small: nn.Module, x: Tensor) -> str:
    """Run one step backwards in training mode: every parameter gets a gradient."""
    other = copy.deepcopy(small).train()
    other(torch.cat([x, x.flip(-1)])).square().mean().backward()
    without = [n for n, p in other.named_parameters() if p.grad is None]
    return f"{len(without)} parameters without gradient: {without[0]}" if without else "yes"


def check_deepcopy(pruned: Pruned, small: nn.Module, x: Tensor) -> str:
    """Copy, and compare answers."""
    other = copy.deepcopy(small)
    with torch.no_grad():
        return _tell_equal(compare(other(x), small(x)))


def check_export(pruned: Pruned, small: nn.Module, x: Tensor) -> str:
    """Export by torch.export and run what comes out."""
    program = torch.export.export(small, (x,), strict=False)
    PROGRAMS[:] = [program]
    with torch.no_grad():
        return _tell_equal(compare(program.module()(x), small(x)))


def check_onnx(pruned: Pruned, small: nn.Module, x: Tensor) -> str:
    """Write ONNX by torch's exporter, run it with ONNX Runtime, compare."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.onnx"
        torch.onnx.export(PROGRAMS[0] if PROGRAMS else small, (x,), str(path), **ONNX)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options)
        (answers,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        return _tell_equal(compare(torch.from_numpy(answers), small(x)))


def check_reload(pruned: Pruned, small: nn.Module, x: Tensor) -> str:
    """Write and read back in the tool's way, with torch allowed to read weights only."""
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        other = pruned.reload(Path(folder)).eval()
    with torch.no_grad():
        equal = _tell_equal(compare(other(x), small(x)))
    return equal if equal != "yes" else "with source" if pruned.source else "without source"


def _tell_equal(difference: float) -> str:
    return "yes" if difference < CLOSE else f"no: differs by {difference:.2g}"


CHECKS = {
    "trains": check_training,
    "deepcopy": check_deepcopy,
    "reload": check_reload,
    "torch.export": check_export,
    "onnx": check_onnx,
}
