"""Takes one architecture through all columns."""

import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any

from .listing import build


def examine(name: str, threads: int = 1) -> dict[str, Any]:
    """Find every column of one line. What fails is said; the columns before it stand."""
    import torch

    from pruner import Plan, PrunerError, trace, verify
    from pruner.structure import count_macs, count_parameters

    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    line: dict[str, Any] = {"result": "ok", "torch": torch.__version__, "date": str(date.today())}
    stage = "build"
    try:
        model, inputs, kwargs = build(name)
        stage, begin = "trace", time.process_time()
        net = trace(model, inputs, kwargs)
        line["trace_s"] = round(time.process_time() - begin, 1)
        least = {dim.name: dim.options()[0] for dim in net.dims.values()}
        parameters, macs = count_parameters(net), max(count_macs(net), 1)
        frozen = [f"{f.reason} ({len(f.tensors)})" for f in net.frozen]
        line.update(
            parameters=parameters,
            dims=len(net.dims),
            blocks=len(net.blocks),
            prunable=round(1 - count_parameters(net, least) / max(parameters, 1), 4),
            prunable_macs=round(1 - count_macs(net, least) / macs, 4),
            fixed_batch=net.fixed_batch is not None,
            frozen="; ".join(reason for reason in frozen if "output of" not in reason),
            no_rule=", ".join(sorted({n.name for n in net.axis_map.unsupported})),
        )
        stage = "plan"
        plan = Plan.random(net, macs=0.5, seed=0, drop_blocks=0.1)
        line["macs"] = round(count_macs(net, plan.sizes(), plan.dropped_blocks()) / macs, 3)
        stage = "oracle"
        line["difference"] = verify(model, net, plan)
        line.update(_check_uses(net, plan))
        stage = "judge"
        good = {"half": 0.3 <= line["macs"] <= 0.51, "oracle": line["difference"] <= 1e-4}
        good |= {column: line[column] == "ok" for column in ("train", "load", "onnx")}
        failed = [column for column, passes in good.items() if not passes]
        if failed:
            line["result"] = "fails: " + ", ".join(failed)
    except Exception as error:
        kind = "" if isinstance(error, PrunerError) else f"{type(error).__name__}: "
        line["result"] = f"{stage}: {kind}{str(error).strip().partition(chr(10))[0][:200]}"
    return line


def _check_uses(net: Any, plan: Any) -> dict[str, str]:
    """Save and load, export, train a step, which changes it: ``ok`` or what went wrong."""
    import torch

    from pruner import apply, load, save
    from pruner.surgery import call_flat, largest_difference

    small = apply(net, plan)
    with torch.no_grad():
        expected = call_flat(small, net, net.inputs)

    def check_training() -> None:
        small.train()
        optimizer = torch.optim.SGD(small.parameters(), lr=1e-4)
        sum(x.square().mean() for x in _select_floats(call_flat(small, net, net.inputs))).backward()
        optimizer.step()
        if not any(p.grad is not None for p in small.parameters()):
            raise AssertionError("no gradient")
        small.eval()

    def check_loading() -> None:
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            save(small, plan, folder)
            delta = largest_difference(call_flat(load(folder), net, net.inputs), expected)
        if delta > 1e-4:
            raise AssertionError(f"differs by {delta:.1e}")

    result = {}
    check_onnx: Callable[[], None] = partial(_check_onnx, small, net, expected)
    for column, check in ("load", check_loading), ("onnx", check_onnx), ("train", check_training):
        try:
            check()
            result[column] = "ok"
        except Exception as error:
            text = str(error).strip().partition("\n")[0]
            result[column] = f"{type(error).__name__}: {text[:160]}"
    return result


def _check_onnx(small: Any, net: Any, expected: Any) -> None:
    """Run it by ONNX Runtime, and compare."""
    import onnx
    import onnxruntime
    import torch

    from pruner.graph import to_onnx
    from pruner.surgery import AlignedInterpreter, find_selections, largest_difference

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
    wanted = _select_floats(expected)
    if picks:
        names = [node.name for node in find_selections(small.graph)]
        choices = dict(zip(names, got[len(got) - len(picks) :], strict=True))
        with torch.no_grad():
            runner = AlignedInterpreter(small, choices)
            wanted = _select_floats(runner.run(*net.inputs, enable_io_processing=False))
    delta = largest_difference([x for x in got if x.is_floating_point()], wanted)
    if delta > 1e-3:
        raise AssertionError(f"differs by {delta:.1e}")


def _select_floats(result: Any) -> list[Any]:
    import torch
    from torch.utils import _pytree as pytree

    leaves = pytree.tree_leaves(result)
    return [x for x in leaves if isinstance(x, torch.Tensor) and x.is_floating_point()]
