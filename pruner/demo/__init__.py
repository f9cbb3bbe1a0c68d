"""Holds what ``msprune demo`` runs on: a small trained network and a sample of photographs.

The network is ResNet-20 for CIFAR-10. The images are 2,000 training and 1,000 test images of
CIFAR-10 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009), the first
200 and 100 of each class, as JPEG files.
"""

import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from .resnet import PREPROCESSING, resnet20

__all__ = ["ARCHIVE", "PREPROCESSING", "WEIGHTS", "resnet20", "unpack"]

WEIGHTS = Path(__file__).with_name("resnet20_cifar10.safetensors")
ARCHIVE = Path(__file__).with_name("cifar10_sample.tar.xz")


def unpack(folder: str | os.PathLike[str]) -> Path:
    """Write the images as folder/{train,test}/CLASS/*.jpg, unless they are there, and return it.

    The folder appears whole or not at all.
    """
    folder = Path(folder)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with tarfile.open(ARCHIVE) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(scratch)
        scratch.chmod(0o755)
        try:
            os.rename(scratch, folder)
        except OSError:  # another process was faster: its copy is as good
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder
