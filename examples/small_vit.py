"""Train a small vision transformer on CIFAR-10, on one core in some ten minutes.

    python -m examples.small_vit IMAGES OUT.safetensors [--minutes 12]

IMAGES is the folder that ``python examples/prepare.py cifar10`` makes (or its archive,
``cifar10-jpeg.tar.xz``). timm's VisionTransformer with images of 32 pixels, patches of 4, six
blocks of 96 channels and 4 heads, a class token and a position table: 0.7 M parameters. It is
trained as far as the time goes (AdamW, one cosine, flips and shifts), not to the state of the art:
what is wanted is a transformer whose weights have learnt something. A training that was stopped
goes on where it was.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 128


def make_vit() -> nn.Module:
    """Return the network, with random weights."""
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=4, embed_dim=96, depth=6, num_heads=4,
        num_classes=10,
    )  # fmt: skip


def read_images(source: Path, split: str, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the images of a split [images, 3, 32, 32] as bytes, and their classes.

    Args:
        source: A folder SPLIT/CLASS/*.jpg, or an archive of one.
        split: train or test.
        limit: Take so many of each class.
    """
    found: dict[str, list[tuple[str, bytes]]] = {}
    if source.is_dir():
        for path in (source / split).glob("*/*.jpg"):
            found.setdefault(path.parent.name, []).append((path.name, path.read_bytes()))
    else:
        with tarfile.open(source) as archive:
            for member in archive:
                parts = member.name.split("/")
                if member.isfile() and parts[0] == split:
                    content = archive.extractfile(member)
                    assert content is not None
                    found.setdefault(parts[1], []).append((parts[2], content.read()))
    images, classes = [], []
    for label, name in enumerate(sorted(found)):
        for _, content in sorted(found[name])[:limit]:
            images.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
            classes.append(label)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.tensor(classes)


def normalize(images: Tensor) -> Tensor:
    """Return images as the network reads them."""
    return images.float() / 127.5 - 1


def augment(images: Tensor, seed: torch.Generator) -> Tensor:
    """Flip half of the images, and shift all of a batch by up to four pixels."""
    flip = torch.rand(len(images), generator=seed) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    down, right = torch.randint(0, 9, (2,), generator=seed).tolist()
    return F.pad(images, (4, 4, 4, 4))[..., down : down + 32, right : right + 32]


def train(net: nn.Module, images: Tensor, classes: Tensor, minutes: float, state: Path) -> None:
    """Train a network for so long, with what has been trained before counted in."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05)
    kept = {"seconds": 0.0, "step": 0}
    if state.is_file():
        kept = torch.load(state, weights_only=True)
        net.load_state_dict(kept.pop("net"))
        optimizer.load_state_dict(kept.pop("optimizer"))
    net.train()
    while kept["seconds"] < 60 * minutes:
        start = time.monotonic()
        for _ in range(20):
            seed = torch.Generator().manual_seed(int(kept["step"]))
            rows = torch.randint(len(images), (BATCH,), generator=seed)
            done = kept["seconds"] / (60 * minutes)
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * min(1.0, (kept["step"] + 1) / 100) * (1 - min(done, 1)) ** 0.7
            with torch.autocast("cpu", torch.bfloat16):
                outputs = net(normalize(augment(images[rows], seed)))
            loss = F.cross_entropy(outputs.float(), classes[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            kept["step"] += 1
        kept["seconds"] += time.monotonic() - start
        torch.save({**kept, "net": net.state_dict(), "optimizer": optimizer.state_dict()}, state)
        print(f"{kept['seconds']:.0f} s, step {kept['step']}: loss {loss.item():.3f}", flush=True)


@torch.no_grad()
def count_right(net: nn.Module, images: Tensor, classes: Tensor) -> float:
    """Return the share of images whose class a network tells."""
    net.eval()
    parts = zip(images.split(500), classes.split(500), strict=True)
    return sum(int((net(normalize(x)).argmax(1) == y).sum()) for x, y in parts) / len(images)


def main() -> None:
    """Train as the arguments say."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.small_vit", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("images", type=Path, metavar="IMAGES")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--minutes", type=float, default=12)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    net = make_vit()
    images, classes = read_images(options.images, "train")
    train(net, images, classes, options.minutes, options.out.with_suffix(".pt"))
    save_file(net.state_dict(), options.out)
    right = count_right(net, *read_images(options.images, "test", 200))
    print(f"{options.out}: {right:.1%} of 2,000 test images right")


if __name__ == "__main__":
    main()
