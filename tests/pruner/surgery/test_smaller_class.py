"""Uniformly cut networks against the smaller network of the same class, weights sliced by hand.

The slices are written here anew, from the class's layout alone: nothing of the package but
`trace`, `Plan` and `apply` takes part.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pruner import Plan, apply, trace

from ..networks import shake

timm = pytest.importorskip("timm", reason="needs the extra 'zoo'")
DOUBLE = torch.float64


def traced(model, side):
    return trace(model, (torch.zeros(2, 3, side, side, dtype=DOUBLE),))


def some(count, size, seed):
    """So many of the indices, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(size)[:count])


def sliced(model, twin, rows):
    """The twin with the model's weights: tensor name -> indices by axis (None: all of them)."""
    state = dict(model.state_dict())
    for name, axes in rows.items():
        for axis, index in enumerate(axes):
            if index is not None:
                state[name] = state[name].index_select(axis, torch.as_tensor(np.asarray(index)))
    twin.load_state_dict(state)
    return twin.to(DOUBLE).eval()


def assert_equal(small, twin, side):
    x = torch.randn(3, 3, side, side, dtype=DOUBLE)
    with torch.no_grad():
        got, expected = small(x), twin(x)
    assert (got - expected).abs().max() <= 1e-10 * expected.abs().max()
    assert {k: v.shape for k, v in small.state_dict().items()} == {
        k: v.shape for k, v in twin.state_dict().items()
    }


def keep_by(net, choose):
    """A plan from (dim -> its kept indices)."""
    return Plan({d.name: tuple(int(i) for i in choose(d)) for d in net.dims.values()}, {})


def vit(width, heads, hidden):
    """head_dim stays 16, so that the smaller class scales its scores as the larger was trained."""
    settings = dict(img_size=16, patch_size=4, depth=2, num_classes=10)
    model = timm.create_model(
        "vit_tiny_patch16_224", embed_dim=width, num_heads=heads, mlp_ratio=hidden / width,
        **settings,
    )  # fmt: skip
    return model


def test_vision_transformer():
    torch.manual_seed(0)
    model = shake(vit(64, 4, 128)).to(DOUBLE)
    net = traced(model, 16)
    width, heads = some(32, 64, 0), {0: some(2, 4, 1), 1: some(2, 4, 2)}
    hidden = {0: some(48, 128, 3), 1: some(48, 128, 4)}
    chosen = {"patch_embed.proj": width}
    for b in (0, 1):
        chosen[f"blocks.{b}.attn.heads"] = heads[b]
        chosen[f"blocks.{b}.mlp.fc1"] = hidden[b]
        chosen[f"blocks.{b}.attn.qk"] = chosen[f"blocks.{b}.attn.v"] = np.arange(16)
    plan = keep_by(net, lambda dim: chosen.pop(dim.name))
    assert not chosen
    rows = {
        "cls_token": (None, None, width),
        "pos_embed": (None, None, width),
        "patch_embed.proj.weight": (width,),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (None, width),
    }
    for b in (0, 1):
        at = f"blocks.{b}"
        outputs = [h * 16 + i for h in heads[b] for i in range(16)]
        fused = [part * 64 + i for part in range(3) for i in outputs]
        for norm in ("norm1", "norm2"):
            rows |= {f"{at}.{norm}.weight": (width,), f"{at}.{norm}.bias": (width,)}
        rows |= {
            f"{at}.attn.qkv.weight": (fused, width),
            f"{at}.attn.qkv.bias": (fused,),
            f"{at}.attn.proj.weight": (width, outputs),
            f"{at}.attn.proj.bias": (width,),
            f"{at}.mlp.fc1.weight": (hidden[b], width),
            f"{at}.mlp.fc1.bias": (hidden[b],),
            f"{at}.mlp.fc2.weight": (width, hidden[b]),
            f"{at}.mlp.fc2.bias": (width,),
        }
    twin = sliced(model, vit(32, 2, 48), rows)
    assert_equal(apply(net, plan), twin, 16)


def swin(width, heads):
    """Two stages of width and 2 * width; heads of width 8, MLPs of twice the width."""
    return timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=width,
        depths=(2, 2), num_heads=heads, mlp_ratio=2.0, num_classes=10,
    )  # fmt: skip


def test_swin_transformer():
    torch.manual_seed(0)
    model = shake(swin(32, (4, 8))).to(DOUBLE)
    for name, parameter in model.named_parameters():
        if "bias_table" in name:
            nn.init.normal_(parameter)
    net = traced(model, 32)
    widths = [some(16, 32, 0), some(32, 64, 1)]
    heads = {(s, b): some((2, 4)[s], (4, 8)[s], 2 + 2 * s + b) for s in (0, 1) for b in (0, 1)}
    hidden = {(s, b): some(32 << s, 64 << s, 9 + 2 * s + b) for s in (0, 1) for b in (0, 1)}
    merged = [quarter * 32 + i for quarter in range(4) for i in widths[0]]
    chosen = {"patch_embed.proj": widths[0], "layers.1.downsample.reduction": widths[1]}
    rows = {
        "patch_embed.proj.weight": (widths[0],),
        "patch_embed.proj.bias": (widths[0],),
        "patch_embed.norm.weight": (widths[0],),
        "patch_embed.norm.bias": (widths[0],),
        "layers.1.downsample.norm.weight": (merged,),
        "layers.1.downsample.norm.bias": (merged,),
        "layers.1.downsample.reduction.weight": (widths[1], merged),
        "norm.weight": (widths[1],),
        "norm.bias": (widths[1],),
        "head.fc.weight": (None, widths[1]),
    }
    for (s, b), kept in heads.items():
        at, width, inner = f"layers.{s}.blocks.{b}", widths[s], hidden[s, b]
        outputs = [h * 8 + i for h in kept for i in range(8)]
        fused = [part * (32 << s) + i for part in range(3) for i in outputs]
        chosen |= {f"{at}.attn.heads": kept, f"{at}.mlp.fc1": inner}
        chosen[f"{at}.attn.qk"] = chosen[f"{at}.attn.v"] = np.arange(8)
        for norm in ("norm1", "norm2"):
            rows |= {f"{at}.{norm}.weight": (width,), f"{at}.{norm}.bias": (width,)}
        rows |= {
            f"{at}.attn.relative_position_bias_table": (None, kept),
            f"{at}.attn.qkv.weight": (fused, width),
            f"{at}.attn.qkv.bias": (fused,),
            f"{at}.attn.proj.weight": (width, outputs),
            f"{at}.attn.proj.bias": (width,),
            f"{at}.mlp.fc1.weight": (inner, width),
            f"{at}.mlp.fc1.bias": (inner,),
            f"{at}.mlp.fc2.weight": (width, inner),
            f"{at}.mlp.fc2.bias": (width,),
        }
    plan = keep_by(net, lambda dim: chosen.pop(dim.name))
    assert not chosen
    twin = sliced(model, swin(16, (2, 4)), rows)
    assert_equal(apply(net, plan), twin, 32)


def convnext(widths):
    """Hidden widths are four times those of the stage."""
    return timm.create_model("convnext_atto", depths=(1, 1, 2, 1), dims=widths, num_classes=10)


def test_convnext():
    torch.manual_seed(0)
    full, half = (16, 24, 32, 40), (8, 12, 16, 20)
    model = shake(convnext(full)).to(DOUBLE)
    net = traced(model, 32)
    widths = [some(new, old, seed) for seed, (new, old) in enumerate(zip(half, full))]
    chosen = {"stem.0": widths[0]}
    rows = {
        "stem.0.weight": (widths[0],),
        "stem.0.bias": (widths[0],),
        "stem.1.weight": (widths[0],),
        "stem.1.bias": (widths[0],),
        "head.norm.weight": (widths[3],),
        "head.norm.bias": (widths[3],),
        "head.fc.weight": (None, widths[3]),
    }
    for stage in (1, 2, 3):
        at, before, width = f"stages.{stage}.downsample", widths[stage - 1], widths[stage]
        chosen[f"{at}.1"] = width
        rows |= {
            f"{at}.0.weight": (before,),
            f"{at}.0.bias": (before,),
            f"{at}.1.weight": (width, before),
            f"{at}.1.bias": (width,),
        }
    for stage, b in ((0, 0), (1, 0), (2, 0), (2, 1), (3, 0)):
        at, width = f"stages.{stage}.blocks.{b}", widths[stage]
        inner = some(4 * half[stage], 4 * full[stage], 10 + 2 * stage + b)
        chosen[f"{at}.mlp.fc1"] = inner
        rows |= {
            f"{at}.gamma": (width,),
            f"{at}.conv_dw.weight": (width,),
            f"{at}.conv_dw.bias": (width,),
            f"{at}.norm.weight": (width,),
            f"{at}.norm.bias": (width,),
            f"{at}.mlp.fc1.weight": (inner, width),
            f"{at}.mlp.fc1.bias": (inner,),
            f"{at}.mlp.fc2.weight": (width, inner),
            f"{at}.mlp.fc2.bias": (width,),
        }
    plan = keep_by(net, lambda dim: chosen.pop(dim.name))
    assert not chosen
    assert_equal(apply(net, plan), sliced(model, convnext(half), rows), 32)


def test_resnet():
    """torchvision's bottlenecks at half their inner width."""
    models = pytest.importorskip("torchvision").models.resnet
    torch.manual_seed(0)
    model = shake(models.ResNet(models.Bottleneck, [1, 2, 1, 1])).to(DOUBLE)
    net = traced(model, 32)
    chosen, rows = {}, {}
    for stage, count in enumerate((1, 2, 1, 1)):
        for b in range(count):
            at, size = f"layer{stage + 1}.{b}", 64 << stage
            first, second = (some(size // 2, size, 10 * stage + 3 * b + k) for k in (0, 1))
            chosen |= {f"{at}.conv1": first, f"{at}.conv2": second}
            rows |= {
                f"{at}.conv1.weight": (first,),
                f"{at}.conv2.weight": (second, first),
                f"{at}.conv3.weight": (None, second),
            }
            for bn, index in (("bn1", first), ("bn2", second)):
                for kind in ("weight", "bias", "running_mean", "running_var"):
                    rows[f"{at}.{bn}.{kind}"] = (index,)
    plan = keep_by(net, lambda dim: chosen.pop(dim.name, range(dim.size)))
    assert not chosen
    twin = models.ResNet(models.Bottleneck, [1, 2, 1, 1], width_per_group=32)
    assert_equal(apply(net, plan), sliced(model, twin, rows), 32)


def test_mobilenet():
    """torchvision's MobileNetV2 at half its width multiplier, all streams included."""
    models = pytest.importorskip("torchvision").models
    settings = [[1, 16, 1, 1], [6, 32, 2, 2], [6, 64, 2, 2]]

    def build(multiplier):
        return models.MobileNetV2(
            10, width_mult=multiplier, inverted_residual_setting=settings, round_nearest=4
        )

    torch.manual_seed(0)
    model = shake(build(1.0)).to(DOUBLE)
    net = traced(model, 32)
    twin = build(0.5)
    small = {name: tensor.shape for name, tensor in twin.state_dict().items()}
    # the widths of the two, layer by layer: every convolution's output, in order of execution
    kept, chosen, rows = {}, {}, {}
    width_in = np.arange(3)
    stream: dict[int, np.ndarray] = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        old, new = layer.out_channels, small[f"{name}.weight"][0]
        block = name.rsplit(".conv", 1)[0]
        linear = name.endswith(("conv.1", "conv.2"))  # the projection back to the stream
        if layer.groups > 1:
            index = width_in
        elif linear and model.get_submodule(block).use_res_connect:
            index = stream[old]
        else:
            index = some(new, old, len(kept))
            chosen[name] = index
        if linear:
            stream[old] = index
        rows[f"{name}.weight"] = (index, None if layer.groups > 1 else width_in)
        kept[name] = width_in = index
    names = [name for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    for conv, norm in zip(kept, names):
        for kind in ("weight", "bias", "running_mean", "running_var"):
            rows[f"{norm}.{kind}"] = (kept[conv],)
    rows["classifier.1.weight"] = (None, width_in)
    plan = keep_by(net, lambda dim: chosen.pop(dim.name, range(dim.size)))
    assert not chosen
    assert_equal(apply(net, plan), sliced(model, twin, rows), 32)
