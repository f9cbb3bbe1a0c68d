"""Core ML, by coremltools; its runtime is a part of macOS."""

from __future__ import annotations

import platform
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from .base import CannotRunError, Run, WriteOptions, import_library
from .plain_network import PlainNetwork


class CoreMlFormat:
    """An ML program for iOS 16 and macOS 13 or later: a package, which is a folder, as a zip."""

    name = "coreml"
    suffixes: tuple[str, ...] = (".mlpackage.zip",)
    precisions: tuple[str, ...] = ("fp32", "fp16")
    frees_batch = False

    def write(self, network: PlainNetwork, options: WriteOptions, file: Path) -> None:
        """Convert the exported program; its metadata are the package's own."""
        tools = import_library("coremltools", self.name)
        half = options.precision == "fp16"
        model = tools.convert(
            network.export().run_decompositions({}),
            convert_to="mlprogram",
            minimum_deployment_target=tools.target.iOS16,
            compute_precision=tools.precision.FLOAT16 if half else tools.precision.FLOAT32,
            skip_model_load=True,
        )
        model.user_defined_metadata.update(
            {f"msprune.{name}": text for name, text in options.metadata.items()}
        )
        with TemporaryDirectory(dir=file.parent, prefix=".coreml-") as folder:
            package = Path(folder) / file.name.removesuffix(".zip")
            model.save(str(package))
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(package.rglob("*")):
                    archive.write(path, path.relative_to(folder))

    def open(self, file: Path, threads: int) -> Run:
        """Load the package; on macOS only."""
        if platform.system() != "Darwin":
            raise CannotRunError(f"Core ML runs on macOS, and this is {platform.system()}")
        tools = import_library("coremltools", self.name)
        folder = TemporaryDirectory(prefix="msprune-")
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder.name)
        model = tools.models.MLModel(str(next(Path(folder.name).iterdir())))
        inputs = [one.name for one in model.get_spec().description.input]
        outputs = [one.name for one in model.get_spec().description.output]

        def run(values: Sequence[Tensor], _: object = folder) -> list[Tensor]:
            feed = {k: x.detach().cpu().numpy() for k, x in zip(inputs, values, strict=True)}
            results = model.predict(feed)
            return [torch.from_numpy(np.array(results[name])) for name in outputs]

        return run

    def name_runtime(self) -> str:
        """Return ``Core ML`` with the system's version."""
        return f"Core ML of {platform.platform()}"
