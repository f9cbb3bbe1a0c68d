"""A cut network is a module like any other: odd ones, and what users do with a module."""

from __future__ import annotations

import copy
import os
import socket
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pruner import Plan, apply, load, save, trace, verify
from pruner.graph.onnx.export import to_onnx
from pruner.surgery.verify import largest_difference

from ..networks import shake
from ..odd_networks import Recurrent, odd_networks
from ..processes import leave_gloo

ODD = odd_networks()


def run(module: nn.Module, x: object) -> object:
    """A call that changes neither the module nor its input."""
    with torch.no_grad():
        return copy.deepcopy(module)(copy.deepcopy(x))


def in_onnxruntime(module: nn.Module, x: object, other: object) -> float:
    """Exported with x, run on other: the largest difference."""
    ort = pytest.importorskip("onnxruntime")
    model = to_onnx(copy.deepcopy(module), (copy.deepcopy(x),), dynamic_batch=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    leaves = [leaf for leaf in pytree.tree_leaves(other) if isinstance(leaf, Tensor)]
    names = [value.name for value in session.get_inputs()]
    got = session.run(None, dict(zip(names, (leaf.numpy() for leaf in leaves))))
    expected = [v for v in pytree.tree_leaves(run(module, other)) if isinstance(v, Tensor)]
    return largest_difference([torch.from_numpy(value) for value in got], expected)


def train_step(module: nn.Module, x: object) -> None:
    module.train()
    results = pytree.tree_leaves(module(copy.deepcopy(x)))
    sum(v.square().sum() for v in results if isinstance(v, Tensor)).backward()
    assert not [name for name, p in module.named_parameters() if p.grad is None]
    torch.optim.SGD(module.parameters(), 0.01).step()
    module.zero_grad()
    module.eval()


@pytest.mark.parametrize("name", sorted(ODD))
def test_odd_networks_go_the_whole_way(name, tmp_path):
    model, x = ODD[name]
    model = shake(model)
    net = trace(copy.deepcopy(model), (copy.deepcopy(x),))
    assert largest_difference(run(net.module, x), run(model, x)) < 1e-6
    plan = Plan.random(net, macs=0.6, seed=0)
    if net.dims:
        assert plan.keep
    assert verify(model, net, plan) < 1e-5
    small = apply(net, plan)
    assert set(small.state_dict()) == set(model.state_dict())
    assert len(list(small.parameters())) == len(list(model.parameters()))
    train_step(small, x)
    save(small, plan, tmp_path)
    loaded = load(tmp_path)
    assert set(loaded.state_dict()) == set(small.state_dict())
    assert len(list(loaded.parameters())) == len(list(small.parameters()))
    assert largest_difference(run(loaded, x), run(small, x)) == 0
    more = pytree.tree_map(lambda v: torch.cat([v, v, v]), x)
    if name not in ("Counter", "Contexts"):  # which write a buffer, take the mean of a batch
        thrice = [torch.cat([v] * 3) for v in _leaves(small, x)]
        assert largest_difference(_leaves(small, more), thrice) < 1e-5
    if name != "Counter":  # the exporter has no way to write a buffer
        assert in_onnxruntime(small, x, more) < 1e-4


def _leaves(module: nn.Module, x: object) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(run(module, x)) if isinstance(leaf, Tensor)]


def test_tied_weights_stay_tied(tmp_path):
    model, x = ODD["Tied"]
    net = trace(model, (x,))
    small = apply(net, Plan.random(net, macs=0.6, seed=0))
    save(small, None, tmp_path)
    for module in (net.module, small, load(tmp_path), copy.deepcopy(small)):
        assert isinstance(module.get_submodule("words"), nn.Embedding)
        assert isinstance(module.get_submodule("head"), nn.Linear)
        assert module.get_parameter("words.weight") is module.get_parameter("head.weight")


def test_buffers_are_written_by_the_rebuilt_network():
    model, x = ODD["Counter"]
    module = copy.deepcopy(trace(model, (x,)).module)
    before = module.get_buffer("count").item()
    first, second = module(x), module(x)
    assert module.get_buffer("count").item() == before + 2
    assert torch.allclose(second, first + 1)


def test_the_rebuilt_network_leaves_its_input_alone():
    model, x = ODD["Contexts"]
    module = trace(model, (x.clone(),)).module
    given = x.clone()
    module(given)
    assert torch.equal(given, x)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_recurrent_layer_is_one_again(bidirectional):
    model = Recurrent(num_layers=2, bidirectional=bidirectional)
    x = torch.randn(2, 3, 7)
    module = trace(model, (x,)).module
    layer = module.get_submodule("rnn")
    assert isinstance(layer, nn.LSTM) and layer.num_layers == 2
    assert all(a is b for a, b in zip(layer._flat_weights, layer.parameters()))
    module.load_state_dict(model.state_dict())
    twin = copy.deepcopy(module)
    with torch.no_grad():
        twin.get_parameter("rnn.weight_hh_l0").zero_()
    assert largest_difference(twin(x), module(x)) > 0
    assert largest_difference(module(x), model(x)) < 1e-6


# ------------------------------------------------------------- what users do with a module


def cnn():
    from torchvision.models import resnet

    return resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=10), (3, 32, 32)


def vit():
    import timm

    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=32, num_heads=4, num_classes=10,
        drop_path_rate=0.1, attn_drop_rate=0.1,
    ), (3, 32, 32)  # fmt: skip


def swin():
    from torchvision.models.swin_transformer import SwinTransformer

    return SwinTransformer([2, 2], 16, [1, 2], [2, 4], [2, 2], num_classes=10), (3, 16, 16)


def lstm():
    return Recurrent(), (3, 7)


KINDS = {"cnn": cnn, "vit": vit, "swin": swin, "lstm": lstm}
CUT: dict[str, tuple] = {}


@pytest.fixture(params=sorted(KINDS))
def cut(request):
    """(original, its Network, plan, pruned, example input); the pruned network is a fresh copy."""
    if request.param not in CUT:
        pytest.importorskip("torchvision")
        pytest.importorskip("timm")
        torch.manual_seed(0)
        model, size = KINDS[request.param]()
        model = shake(model)
        net = trace(model, (torch.zeros(2, *size),))
        plan = Plan.random(net, macs=0.5, seed=0, drop_blocks=0.0)
        CUT[request.param] = model, net, plan, apply(net, plan), torch.randn(4, *size)
    model, net, plan, small, x = CUT[request.param]
    return model, net, plan, copy.deepcopy(small), x


def test_it_has_the_names_and_layers_of_its_original(cut):
    model, _, _, small, x = cut
    assert set(small.state_dict()) == set(model.state_dict())
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.LayerNorm | nn.LSTM):
            assert isinstance(layer, type(small.get_submodule(name))), name
    seen = []
    name = next(n for n, m in small.named_modules() if isinstance(m, nn.Conv2d | nn.Conv1d))
    small.get_submodule(name).register_forward_hook(lambda *given: seen.append(given[2].shape))
    small(x)
    assert len(seen) == 1 and seen[0][0] == len(x)
    train_step(small, x)


def test_it_is_traced_again_at_the_sizes_of_the_plan(cut):
    _, net, plan, small, x = cut
    again = trace(small, (x[:2],))
    sizes = {**{name: dim.size for name, dim in net.dims.items()}, **plan.sizes()}
    # heads of which one is left, and the like, are no Dims any more
    assert sorted(d.size for d in again.dims.values()) == sorted(n for n in sizes.values() if n > 1)
    assert largest_difference(again.module(x), small(x)) < 1e-6
    drawn = [sorted(type(m).__name__ for m in g.modules()) for g in (again.module, small)]
    assert drawn[0] == drawn[1]
    exported = torch.export.export(small, (x,), strict=False)
    assert largest_difference(exported.module()(x), small(x)) < 1e-6


def test_it_compiles(cut):
    *_, small, x = cut
    compiled = torch.compile(small, backend="aot_eager")
    assert largest_difference(compiled(x), small(x)) < 1e-5
    small.train()
    compiled(x).square().sum().backward()
    assert all(p.grad is not None for p in small.parameters())
    torch.compiler.reset()


def test_it_runs_under_autocast(cut):
    *_, small, x = cut
    small.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = small(x)
    result.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters())
    small.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert largest_difference(small(x).float(), small.float()(x).float()) < 0.1


def test_it_exports_to_onnx_at_any_batch(cut):
    *_, small, x = cut
    assert in_onnxruntime(small, x[:2], x[:3]) < 1e-4


def _worker(rank: int, port: int, folder: Path, x: Tensor, both_done: Barrier) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    small = load(folder).train()
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    parallel = nn.parallel.DistributedDataParallel(small)
    parallel(x[2 * rank : 2 * rank + 2]).square().sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in small.parameters()])
    both = [torch.empty_like(gradient) for _ in range(2)]
    torch.distributed.all_gather(both, gradient)
    assert torch.equal(*both) and gradient.any()
    leave_gloo(both_done)


def test_it_trains_on_two_processes(tmp_path):
    model, size = lstm()
    net = trace(shake(model), (torch.zeros(2, *size),))
    save(apply(net, Plan.random(net, macs=0.6, seed=0)), None, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both_done = torch.multiprocessing.get_context("spawn").Barrier(2)
    given = (port, tmp_path, torch.randn(4, *size), both_done)
    torch.multiprocessing.start_processes(_worker, given, nprocs=2, start_method="spawn")
