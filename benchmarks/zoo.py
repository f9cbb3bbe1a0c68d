"""Which architectures work the whole way, each in a process of its own; writes docs/support.md.

    python -m benchmarks.zoo [--only TEXT] [--again] [--jobs N]

One architecture of every timm family (the smallest), every torchvision classification and
segmentation model, and Hugging Face vision models of default configuration, all with random
weights. Each is traced, cut at random to half its multiply-adds, compared with the masked dense
network, trained for a step, saved and loaded without its source, exported to ONNX and run by ONNX
Runtime. Scales, shifts and statistics are random too: a network as it is initialized multiplies
many of its branches by zero or one, and would hide what is cut wrongly there. Seconds are those of
processor time of the whole line on one thread (imports included), which other work on the machine
changes little; what takes over 120 of them is run again at the end, alone, on all cores, by the
clock. Finished lines are kept in benchmarks/results/zoo.csv; the same command continues.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from . import record

RESULTS = record.RESULTS / "zoo.csv"
SUPPORT = record.ROOT / "docs" / "support.md"
HANG_S = 120.0
"""Seconds on all cores over which a line counts as hanging."""
SLOW = f"fails: over {HANG_S:.0f} s"
LIMIT_S = 900.0
"""Wall-clock seconds after which a process is ended: generous against a busy machine."""
ASKED = (
    "vision_transformer", "deit", "swin_transformer", "convnext", "maxxvit", "eva", "cait", "xcit",
    "levit", "efficientformer", "tiny_vit", "fastvit", "pvt_v2", "metaformer", "mlp_mixer", "nfnet",
    "res2net", "dpn", "shufflenet_v2_x0_5",
)  # fmt: skip
"""Families of which at least 60% of the parameters must be prunable."""

# Default configurations (random weights); the inputs are made in `_make_inputs`.
HF = (
    "ViT", "DeiT", "Swin", "Swinv2", "ConvNext", "Segformer", "Dinov2", "CLIPVision", "Beit",
    "MobileViT", "PvtV2", "Hiera", "ResNet", "SiglipVision", "DPT", "Yolos", "CLIP", "Blip",
    "RTDetr",
)  # fmt: skip


def main() -> None:
    """Run what is missing, print the table, write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", help="architectures whose name holds this text")
    parser.add_argument("--again", action="store_true", help="do finished lines anew")
    parser.add_argument("--jobs", type=int, default=1, help="architectures at a time (default 1)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        line = examine(options.one, options.threads)
        used = resource.getrusage(resource.RUSAGE_SELF)
        line["seconds"] = round(used.ru_utime + used.ru_stime, 1)
        print(json.dumps(line))
        return
    done = pd.read_csv(RESULTS) if RESULTS.is_file() else pd.DataFrame({"name": []})
    families = list_architectures()
    asked = [name for name in families if not options.only or options.only in name]
    todo = [name for name in asked if options.again or not (done["name"] == name).any()]
    RESULTS.parent.mkdir(exist_ok=True)

    def keep(line: dict[str, Any]) -> None:
        nonlocal done
        done = pd.concat([done[done["name"] != line["name"]], pd.DataFrame([line])])
        done.to_csv(RESULTS, index=False)
        print(f"{line['name']}: {line['result']} ({line['seconds']:.0f} s)", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        for line in pool.map(lambda name: run_alone(name, families[name]), todo):
            keep(line)
    for name in list(done["name"][done["result"] == SLOW]):
        keep(run_alone(name, families[name], os.cpu_count() or 1))
    text = report(done)
    record.write_result(SUPPORT, text)
    print(text)


def list_architectures() -> dict[str, str]:
    """List all names, ``library:model``, with their families."""
    path = Path(__file__).with_name("zoo_timm.json")
    if not path.is_file():
        record.write_json(path, find_smallest_of_families())
    timm_names = record.read_json(path, {})
    import torchvision

    tv = torchvision.models
    names = tv.list_models(module=tv) + tv.list_models(module=tv.segmentation)
    return {
        **{f"timm:{name}": family for family, name in timm_names.items()},
        **{f"torchvision:{name}": name for name in names},
        **{f"hf:{name}": name for name in HF},
    }


def find_smallest_of_families() -> dict[str, str]:
    """Return timm family -> its architecture with the fewest parameters (built without memory)."""
    import timm
    import torch

    result = {}
    for family in timm.list_modules():
        sizes = {}
        for name in timm.list_models(module=family):
            if name.startswith("test_"):  # made for timm's own tests, too small to show anything
                continue
            with contextlib.suppress(Exception), torch.device("meta"):
                sizes[name] = sum(p.numel() for p in timm.create_model(name).parameters())
        if sizes:
            result[family] = min(sizes, key=lambda name: sizes[name])
    return result


def run_alone(name: str, family: str, threads: int = 1) -> dict[str, Any]:
    """Examine one architecture where it can crash and hang without harm.

    On several threads its seconds are the clock's.
    """
    about = {"name": name, "family": family, "seconds": LIMIT_S}
    begin, arguments = time.monotonic(), ("--one", name, "--threads", threads)
    try:
        done = record.run_module("benchmarks.zoo", *arguments, limit_s=LIMIT_S)
    except subprocess.TimeoutExpired:
        return {**about, "result": f"over {LIMIT_S:.0f} s of wall-clock time"}
    try:
        line = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError:
        line = {"result": "crash: " + (done.stderr.strip().rpartition("\n")[2] or "no output")}
    if threads > 1:
        line |= {"seconds": round(time.monotonic() - begin, 1), "threads": threads}
    if line["result"] == "ok" and line["seconds"] > HANG_S:
        line["result"] = SLOW if threads == 1 else f"{SLOW} on {threads} threads"
    return {**about, **line}


def build(name: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Build a model with random weights, scales and statistics, and its example inputs."""
    import torch

    model, inputs, kwargs = _build(name)
    generator = torch.Generator().manual_seed(0)

    def draw_noise(like: Any) -> Any:
        return torch.randn(like.shape, generator=generator).to(like)

    with torch.no_grad():
        for key, buffer in model.named_buffers():
            if key.endswith("running_mean"):
                buffer.add_(draw_noise(buffer), alpha=0.1)
            if key.endswith("running_var"):
                buffer.mul_(1 + 0.5 * draw_noise(buffer).tanh())
        for parameter in model.parameters():
            if parameter.is_floating_point() and bool((parameter == parameter.flatten()[0]).all()):
                parameter.add_(draw_noise(parameter), alpha=0.1)
    return model.eval(), inputs, kwargs


def _build(name: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    import torch

    torch.manual_seed(0)
    library, _, model_name = name.partition(":")
    if library == "timm":
        model = record.build_module(name)
        size = model.default_cfg["input_size"]
        weights = sum(p.numel() for p in model.parameters())
        # One image where the image or the network is large: their passes are what takes long.
        count = 2 if size[-1] <= 448 and weights <= 2e8 else 1
        return model, (torch.randn(count, *size),), {}
    if library == "torchvision":
        with contextlib.suppress(TypeError):
            model = record.build_module(name, weights_backbone=None)
            return model, (torch.randn(2, 3, 224, 224),), {}
        slow = {"init_weights": False} if model_name in ("inception_v3", "googlenet") else {}
        side = 299 if "inception" in model_name else 224
        return record.build_module(name, **slow), (torch.randn(2, 3, side, side),), {}
    import transformers

    kind = getattr(transformers, f"{model_name}Model")
    config = kind.config_class()
    return kind(config), (), _make_inputs(model_name, config)


def _make_inputs(name: str, config: Any) -> dict[str, Any]:
    import torch

    vision = getattr(config, "vision_config", config)
    side = getattr(vision, "image_size", 224) or 224
    height, width = side if isinstance(side, list | tuple) else (side, side)
    if name == "Yolos":
        height, width = 512, 864
    if name == "RTDetr":
        height = width = 256
    pixels = torch.randn(2, 3, height, width)
    if name in ("CLIP", "Blip"):
        ids = torch.arange(2 * 7).reshape(2, 7) + 1
        return {"input_ids": ids, "pixel_values": pixels, "attention_mask": torch.ones_like(ids)}
    return {"pixel_values": pixels}


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


def report(done: pd.DataFrame) -> str:
    """Write docs/support.md from the results."""
    rows = done.astype(object).where(done.notna(), None).sort_values("name").to_dict("records")
    asked = done[done["family"].isin(ASKED)]
    return record.render("support.md.j2", done=done, asked=asked, rows=rows)


if __name__ == "__main__":
    main()
