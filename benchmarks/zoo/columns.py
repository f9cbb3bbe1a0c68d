"""What a user does with a network that is traced and cut: one check a column.

A check returns None, or a word on how it passed, and raises where it does not.
"""

import copy
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .subject import MOST_DIFFERENCE, Failure, Subject, require_equal, select_tensors


def check_inspect(subject: Subject) -> None:
    """Describe the network as the command does: the text is not empty."""
    from pruner.models import DenseModel
    from pruner.run.inspect import inspect_network

    preset: Any = None
    dense = DenseModel(subject.net.name, subject.model, None, "", preset)
    for everything in (False, True):
        if len(inspect_network(subject.net, dense, everything).text.splitlines()) < 5:
            raise Failure("hardly any text")


def check_effect(subject: Subject) -> str | None:
    """Ask that the cut changes what the network says, by more than the oracle overlooks.

    Where it does not, no comparison of the cut network with another proves anything.
    """
    from pruner.surgery import largest_difference

    if not subject.plan.keep and all(subject.plan.blocks.values()):
        return "nothing is cut"
    dense = select_tensors(subject.dense)
    pairs = zip(select_tensors(subject.expected), dense, strict=True)
    changes = [largest_difference(got, expected) for got, expected in pairs]
    if not any(change > MOST_DIFFERENCE for change in changes):
        raise Failure(f"the cut changes the outputs by {max(changes, default=0.0):.1e} only")
    return None


def check_batch(subject: Subject) -> str | None:
    """Run dense and pruned network on another batch: as the user's model, as the masked one.

    A refusal in one line passes, and is told.
    """
    import torch

    def repeat_rows(x: Any) -> Any:
        return torch.cat([x, x, x])[: len(x) + 1] if x.dim() else x

    return _compare_changed(subject, repeat_rows)


def check_size(subject: Subject) -> str | None:
    """As `check_batch`, with larger or smaller images, where the user's model takes such."""
    for factor in (0.5, 1.5):
        change = partial(_resize_images, factor=factor)
        leaves = select_tensors((subject.args, subject.kwargs))
        if all(change(x).shape == x.shape for x in leaves):
            continue
        try:
            subject.call(subject.model, change)
        except Exception:
            continue  # not a size of this network
        return _compare_changed(subject, change)
    return "one size only"


def _resize_images(x: Any, factor: float) -> Any:
    """Resize what looks like images, videos and volumes, in multiples of 32 where they are such."""
    from torch.nn import functional

    if x.dim() not in (4, 5) or not x.is_floating_point() or min(x.shape[-2:]) < 32:
        return x
    sides = []
    for side in x.shape[-2:]:
        unit = 1 if side % 32 else 32
        sides.append(max(unit, round(side * factor / unit) * unit))
    return functional.interpolate(x, size=[*x.shape[2:-2], *sides], mode="nearest-exact")


def _compare_changed(subject: Subject, change: Callable[[Any], Any]) -> str | None:
    """Compare networks on changed inputs: dense with the model, pruned with masked dense."""
    from torch.utils import _pytree as pytree

    from pruner import PrunerError
    from pruner.surgery import compare_masked

    try:
        expected = subject.call(subject.model, change)
    except Exception as error:
        return f"not even the model: {type(error).__name__}"
    try:
        require_equal(subject.call(subject.net.module, change), expected)
        got = select_tensors(subject.call(subject.small, change), floats=True)
    except PrunerError as error:
        return f"refused: {str(error).splitlines()[0][:120]}"
    inputs = pytree.tree_leaves(subject.change(change))
    delta = compare_masked(subject.small, subject.net, subject.plan, inputs)
    if not delta <= MOST_DIFFERENCE:
        raise Failure(f"the pruned network differs from the masked one by {delta:.1e}")
    if not all(bool(x.isfinite().all()) for x in got):
        finite = [bool(x.isfinite().all()) for x in select_tensors(expected, floats=True)]
        if all(finite):
            raise Failure("the pruned network's outputs are not finite")
    return None


def check_copy(subject: Subject) -> None:
    """Copy the pruned module deeply: it says the same."""
    require_equal(subject.call(copy.deepcopy(subject.small)), subject.expected, most=1e-6)


def check_move(subject: Subject) -> None:
    """Move the pruned module to another device and run it there: a GPU, else ``meta``."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "meta"
    moved = copy.deepcopy(subject.small).to(device)
    got = select_tensors(subject.call(moved, lambda x: x.to(device)))
    expected = select_tensors(subject.expected)
    if [x.shape for x in got] != [x.shape for x in expected]:
        raise Failure("other shapes there")
    left = [x.device.type for x in got if x.device.type != device]
    if left:
        raise Failure(f"{len(left)} of {len(got)} outputs are on {left[0]}")


def check_names(subject: Subject) -> None:
    """Compare state_dict names: those of the cut are the model's, and what is left has all."""
    dense, uncut, small = (
        set(module.state_dict()) for module in (subject.model, subject.net.module, subject.small)
    )
    gone = tuple(name for name, stays in subject.plan.blocks.items() if not stays)
    for what, names in (
        ("new", small - dense),
        ("lost by trace", dense - uncut),
        ("lost by the cut", set() if gone else uncut - small),
    ):
        if names:
            raise Failure(f"{len(names)} {what}: {', '.join(sorted(names)[:3])}")


def check_loading(subject: Subject) -> None:
    """Save, and load without the model's source."""
    from pruner import load, save

    with tempfile.TemporaryDirectory() as folder:
        save(subject.small, subject.plan, folder)
        require_equal(subject.call(load(folder)), subject.expected)


def check_training(subject: Subject) -> None:
    """Take a training step; it changes the module, so it comes last."""
    import torch

    from pruner.surgery import call_flat

    small, net = subject.small, subject.net
    small.train()
    optimizer = torch.optim.SGD(small.parameters(), lr=1e-4)
    values = select_tensors(call_flat(small, net, net.inputs), floats=True)
    loss: Any = sum(x.square().mean() for x in values)
    loss.backward()
    optimizer.step()
    if not any(p.grad is not None for p in small.parameters()):
        raise Failure("no gradient")
    small.eval()


def check_onnx(subject: Subject) -> None:
    """Export, run by ONNX Runtime, and compare."""
    import onnx
    import onnxruntime
    import torch

    from pruner.graph import to_onnx
    from pruner.surgery import AlignedInterpreter, find_selections

    small, net = subject.small, subject.net
    model = to_onnx(small, net.inputs)
    # Among near equals each runtime selects its own: the comparison follows this one's choice.
    picks = [node.output[1] for node in model.graph.node if node.op_type == "TopK"]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in picks)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feeds = {i.name: x.numpy() for i, x in zip(session.get_inputs(), net.inputs)}
    got = [torch.from_numpy(x) for x in session.run(None, feeds) if hasattr(x, "dtype")]
    wanted = select_tensors(subject.expected, floats=True)
    if picks:
        names = [node.name for node in find_selections(small.graph)]
        choices = dict(zip(names, got[len(got) - len(picks) :], strict=True))
        with torch.no_grad():
            runner = AlignedInterpreter(small, choices)
            wanted = runner.run(*net.inputs, enable_io_processing=False)
            wanted = select_tensors(wanted, floats=True)
    require_equal([x for x in got if x.is_floating_point()], wanted, most=1e-3)


CHECKS: Mapping[str, Callable[[Subject], str | None]] = {
    "inspect": check_inspect,
    "effect": check_effect,
    "batch": check_batch,
    "size": check_size,
    "copy": check_copy,
    "move": check_move,
    "names": check_names,
    "load": check_loading,
    "onnx": check_onnx,
    "train": check_training,
}
"""Column -> its check, in the order in which they run."""
