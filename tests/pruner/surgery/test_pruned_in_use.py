"""Cut networks of five kinds in their users' hands: each use gives the module's own numbers."""

from __future__ import annotations

import copy
import io
import shutil
import warnings
from functools import cache

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, distributed, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
)
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.checkpoint import checkpoint

from pruner import Plan, apply, load, save, trace
from pruner.surgery.verify import largest_difference

from ..networks import shake
from ..processes import leave_gloo

timm = pytest.importorskip("timm")
SIDE = 32


class UNet(nn.Module):
    """Three scales, skip connections, an upsampling to the size that the skip has."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = self.block(3, 16, 1)
        self.down2 = self.block(16, 24, 2)
        self.middle = nn.Sequential(nn.Conv2d(24, 32, 3, 2, 1), nn.GroupNorm(4, 32), nn.SiLU())
        self.up = nn.ConvTranspose2d(32, 24, 2, 2)
        self.fuse = self.block(48, 24, 1)
        self.head = nn.Conv2d(40, 2, 1)

    @staticmethod
    def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(a)
        c = self.fuse(torch.cat([self.up(self.middle(b)), b], 1))
        c = nn.functional.interpolate(c, scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(torch.cat([a, c], 1))


def build_swin() -> nn.Module:
    return timm.models.SwinTransformer(
        img_size=SIDE, patch_size=4, window_size=4, embed_dim=16, depths=(2, 1), num_heads=(2, 4),
        num_classes=5,
    )  # fmt: skip


BUILD = {
    "resnet": lambda: timm.create_model("test_resnet", num_classes=5),
    "mobilenet with SE": lambda: timm.create_model("test_efficientnet", num_classes=5),
    "vit": lambda: timm.create_model("test_vit", num_classes=5, img_size=SIDE, patch_size=8),
    "swin": build_swin,
    "unet": UNet,
}
KINDS = pytest.mark.parametrize("kind", BUILD)


@cache
def traced(kind):
    torch.manual_seed(0)
    model = shake(BUILD[kind]())
    net = trace(model, (torch.zeros(2, 3, SIDE, SIDE),))
    return model, net, Plan.random(net, macs=0.6, seed=0, drop_blocks=0.2)


def cut(kind):
    """A cut network of its own, in evaluation mode."""
    _, net, plan = traced(kind)
    return apply(net, plan)


def images(count=2, side=SIDE):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def gradients(module, x=None):
    torch.manual_seed(0)
    module.zero_grad()
    module(images() if x is None else x).float().square().mean().backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def plain(named):
    """Without what wrappers put into names."""
    marks = ("_orig_mod.", "_checkpoint_wrapped_module.", "inner.", "module.")
    result = {}
    for name, value in named.items():
        for mark in marks:
            name = name.replace(mark, "")
        result[name] = value
    return result


def assert_close(got, expected, tolerance=1e-5):
    if isinstance(expected, dict):
        assert got.keys() == expected.keys()
    assert largest_difference(got, expected) <= tolerance


@KINDS
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_compiled(kind, mode):
    torch._dynamo.reset()
    small = cut(kind).train(mode == "train")
    twin = torch.compile(copy.deepcopy(small), backend="aot_eager")
    assert_close(plain(gradients(twin)), gradients(small), 1e-4)
    assert_close(twin._orig_mod.state_dict(), small.state_dict())


@pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler")
def test_compiled_by_inductor():
    torch._dynamo.reset()
    small = cut("unet")
    with torch.no_grad():
        assert_close(torch.compile(small)(images()), small(images()))


@KINDS
def test_other_types_of_numbers(kind):
    small = cut(kind)
    with torch.no_grad():
        expected = small(images())
        for number, tolerance in (torch.double, 1e-5), (torch.bfloat16, 0.1), (torch.half, 0.02):
            got = copy.deepcopy(small).to(number)(images().to(number))
            assert got.dtype == number
            assert_close(got.float(), expected, tolerance)


@KINDS
def test_autocast(kind):
    small = cut(kind)
    expected = gradients(small)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = gradients(small)
        assert all(p.grad.dtype == torch.float32 for p in small.parameters())
    assert got.keys() == expected.keys()
    large = max(float(g.abs().max()) for g in expected.values())
    assert all((got[name] - expected[name]).abs().max() < 0.1 * large for name in got)


@KINDS
def test_channels_last(kind):
    small = cut(kind)
    expected = gradients(small)
    small = small.to(memory_format=torch.channels_last)
    got = gradients(small, images().to(memory_format=torch.channels_last))
    assert_close(got, expected, 1e-4)


@KINDS
def test_hooks_by_old_names(kind):
    model, net, _ = traced(kind)
    small = apply(net, Plan.dense(net))
    seen, ours, back = {}, {}, set()

    def watch(module, name, results):
        return module.get_submodule(name).register_forward_hook(
            lambda _, x, result: results.update({name: result.detach().clone()})
        )

    # modules of timm that hold a scale, and read it in a group's own forward, are groups here
    layers = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Conv2d | nn.Linear
              | nn.LayerNorm | nn.GroupNorm) or type(m) is nn.BatchNorm2d]  # fmt: skip
    handles = [watch(model, name, seen) for name in layers]
    for name in layers:
        watch(small, name, ours)
        small.get_submodule(name).register_full_backward_hook(
            lambda module, inputs, outputs, name=name: back.add(name)
        )
    model(images())
    for handle in handles:
        handle.remove()
    small(images().requires_grad_()).sum().backward()
    assert_close(ours, seen)
    assert back == ours.keys()


@KINDS
def test_hooks_on_groups_of_layers_are_told_that_they_will_not_run(kind):
    small = cut(kind)
    groups = [m for m in small.children() if next(m.children(), None) is not None]
    assert groups
    for module in (small, copy.deepcopy(small)):
        for group in groups:
            with pytest.warns(UserWarning, match="register it at a layer, such as"):
                group.register_forward_hook(print)
        module(images())


@KINDS
def test_exported_again(kind):
    small = cut(kind)
    exported = torch.export.export(
        small, (images(),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
    )
    with torch.no_grad():
        assert_close(exported.module()(images(3)), small(images(3)))
    assert exported.state_dict.keys() == small.state_dict().keys()


class Checkpointed(nn.Module):
    def __init__(self, inner) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=False)


@KINDS
def test_gradient_checkpointing(kind):
    small = cut(kind).train()
    expected = gradients(copy.deepcopy(small))
    assert_close(plain(gradients(Checkpointed(copy.deepcopy(small)))), expected)
    apply_activation_checkpointing(
        small, check_fn=lambda layer: isinstance(layer, nn.Conv2d | nn.Linear)
    )
    assert_close(plain(gradients(small)), expected)


@KINDS
def test_state_dict_of_another_instance(kind):
    small, other = cut(kind), cut(kind)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    small.load_state_dict(other.state_dict())
    assert torch.equal(small(images()), other(images()))
    state = other.state_dict()
    first = next(iter(state))
    state["more.weight"] = state.pop(first)
    missing, unexpected = small.load_state_dict(state, strict=False)
    assert missing == [first] and unexpected == ["more.weight"]
    with pytest.raises(RuntimeError, match=r"more\.weight"):
        small.load_state_dict(state)


@KINDS
def test_the_dense_state_dict_sliced_by_the_plan(kind):
    model, net, plan = traced(kind)
    small = cut(kind)
    state = {name: model.state_dict()[name] for name in small.state_dict()}
    gone = {}
    for name, kept in plan.keep.items():
        for slot in net.dims[name].slots:
            owner = torch.from_numpy(slot.owner)
            mask = gone.setdefault((slot.tensor, slot.axis), torch.zeros(len(owner), dtype=bool))
            mask |= (owner >= 0) & ~torch.isin(owner, torch.tensor(kept))
    for (name, axis), mask in gone.items():
        if name in state:
            state[name] = state[name].index_select(axis, (~mask).nonzero().flatten())
    expected = small(images())
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    small.load_state_dict(state)
    assert torch.equal(small(images()), expected)


@KINDS
def test_traced_by_fx_and_jit(kind):
    small = cut(kind)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.equal(torch.fx.symbolic_trace(small)(images(3)), small(images(3)))
        assert_close(torch.jit.trace(small, images(3))(images(3)), small(images(3)))


@KINDS
def test_copied(kind):
    small = cut(kind).train()
    small.get_submodule(next(n for n, m in small.named_modules() if n)).eval()
    twin = copy.deepcopy(small)
    assert type(twin).__name__ == type(small).__name__
    for (name, ours), (other, theirs) in zip(small.named_modules(), twin.named_modules()):
        assert name == other and ours.training == theirs.training
    a, b = small.state_dict(), twin.state_dict()
    assert list(a) == list(b)
    assert all(torch.equal(a[n], b[n]) and a[n].data_ptr() != b[n].data_ptr() for n in a)
    assert torch.equal(twin.eval()(images()), small.eval()(images()))
    with torch.no_grad():
        next(twin.parameters()).zero_()
    assert not torch.equal(twin(images()), small(images()))


@KINDS
def test_saved_by_torch(kind):
    small = cut(kind)
    for content in (small.state_dict(), small):
        file = io.BytesIO()
        torch.save(content, file)
        file.seek(0)
        found = torch.load(file, weights_only=content is not small)
        twin = cut(kind) if content is not small else found
        twin.load_state_dict(found if content is not small else small.state_dict())
        assert not twin.training
        assert twin.state_dict().keys() == small.state_dict().keys()
        assert torch.equal(twin(images()), small(images()))


@KINDS
def test_exported_to_onnx_by_torch(kind):
    onnxruntime = pytest.importorskip("onnxruntime")
    small, file = cut(kind), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(small, (images(),), dynamo=True, verbose=False, optimize=False).save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    got = session.run(None, {session.get_inputs()[0].name: images().numpy()})
    assert_close(torch.from_numpy(got[0]), small(images()), 1e-4)


@KINDS
def test_frozen_parts_and_groups_of_parameters(kind):
    model = traced(kind)[0]
    small = cut(kind).train()
    rank = {name: p.dim() for name, p in model.named_parameters()}
    assert all(rank[name] == p.dim() for name, p in small.named_parameters())
    part = next(name for name, _ in small.named_children())
    small.get_submodule(part).requires_grad_(False)
    trained = {n: p for n, p in small.named_parameters() if not n.startswith(part + ".")}
    assert gradients(small).keys() == trained.keys()
    before = copy.deepcopy(small.state_dict())
    groups = [
        {"params": [p for p in trained.values() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in trained.values() if p.dim() <= 1], "lr": 0.1},
    ]
    torch.optim.AdamW(groups, lr=0.1).step()
    for name, parameter in small.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in trained)


@KINDS
def test_averaged(kind):
    small = cut(kind).train()
    average = AveragedModel(small, use_buffers=True)
    start = {name: p.detach().clone() for name, p in small.named_parameters()}
    for _ in range(2):
        average.update_parameters(small)
        with torch.no_grad():
            for parameter in small.parameters():
                parameter.add_(0.5)
    expected = {name: p + 0.25 for name, p in start.items()}
    assert_close(dict(average.module.named_parameters()), expected)
    assert average.module.state_dict().keys() == small.state_dict().keys()
    update_bn([images()], average)
    assert average.eval()(images()).isfinite().all()


@KINDS
def test_quantized_dynamically(kind):
    small = cut(kind)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        quantized = torch.ao.quantization.quantize_dynamic(small, {nn.Linear}, dtype=torch.qint8)
        assert_close(quantized(images()), small(images()), 0.1)
    linear = sum(isinstance(m, nn.Linear) for m in small.modules())
    dynamic = torch.ao.nn.quantized.dynamic.Linear
    assert sum(isinstance(m, dynamic) for m in quantized.modules()) == linear


@KINDS
def test_parameters_stand_in_the_order_of_the_model(kind, tmp_path):
    """By which optimizers know them."""
    small = cut(kind)
    save(small, None, tmp_path)
    names = [name for name, _ in small.named_parameters()]
    whole = [name for name, _ in traced(kind)[0].named_parameters() if name in names]
    loaded = [name for name, _ in load(tmp_path).named_parameters()]
    assert names == whole == loaded
    assert [name for name, _ in copy.deepcopy(small).named_parameters()] == names


def train_distributed(rank, folders, store, results, both_done):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", store=distributed.FileStore(store, 2), rank=rank, world_size=2
    )
    for kind, folder in folders.items():
        wrapped = nn.parallel.DistributedDataParallel(load(folder))
        got = plain(gradients(wrapped, images(4)[2 * rank : 2 * rank + 2]))
        if rank == 0:
            torch.save(got, f"{results}/{kind}.pt")
        wrapped.train()
        assert all(g.isfinite().all() for g in gradients(wrapped).values())
    leave_gloo(both_done)


def test_distributed_gradients_are_those_of_one_process(tmp_path):
    folders = {kind: str(tmp_path / kind) for kind in BUILD}
    for kind, folder in folders.items():
        save(cut(kind), None, folder)
    both_done = mp.get_context("spawn").Barrier(2)
    given = (folders, str(tmp_path / "store"), str(tmp_path), both_done)
    mp.spawn(train_distributed, given, nprocs=2)
    for kind in BUILD:
        expected = gradients(cut(kind), images(4))
        assert_close(torch.load(tmp_path / f"{kind}.pt"), expected, 1e-4)
