"""The format ``hf`` of the verb export: a folder that the transformers library loads."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from ..errors import PrunerError
from ..formats import FOLDER_FORMAT, import_library
from ..graph import evaluation_mode
from ..models import Example, load_auto_classes
from ..surgery import FILE, load
from .console_summary import Outcome
from .context import Workspace

_CONFIG = "config.json"
_BESIDE = (
    "preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt",
    "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
"""What a model's folder holds for its images and texts; a pruned network takes the same ones."""


def export_run(space: Workspace, out: str | os.PathLike[str] | None) -> Outcome:
    """Write a RUN's cut network as a folder, ``RUN/hf`` by default; see `write_folder`."""
    if space.config.parts:
        raise PrunerError(
            f"--format {FOLDER_FORMAT} holds whole networks, and this RUN is of "
            f"{', '.join(space.config.parts)}: pruner.load(RUN) gives the whole model"
        )
    space.folder.verify(FILE)
    space.check_identity()
    known: Any = getattr(space.dense.module, "config", None)
    origin = known.to_dict() if hasattr(known, "to_dict") else {}
    beside = Path(space.dense.folder) if space.dense.folder else None
    folder = space.folder / FOLDER_FORMAT if out is None else Path(out)
    return write_folder(load(space.folder.path), folder, origin, space.find_call(), beside)


def write_folder(
    network: fx.GraphModule,
    folder: Path,
    origin: Mapping[str, Any],
    example: Example | None = None,
    beside: Path | None = None,
) -> Outcome:
    """Write config.json and model.safetensors, load them by AutoModel, and compare the answers.

    Args:
        network: What `pruner.apply` or `pruner.load` gave.
        folder: Where to; a folder that was written so before is replaced.
        origin: The configuration of the model that it was cut from; {} where there is none.
        example: Arguments that the answers are compared on.
        beside: The model's folder, whose files for images and texts are copied.

    Raises:
        PrunerError: transformers is missing, the folder holds something else, or the library's
            answers are others.
    """
    transformers = import_library("transformers", FOLDER_FORMAT, extra="zoo")
    kinds = load_auto_classes()
    _check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        kinds.PrunedNetwork(kinds.PrunedConfig.of(origin), network).save_pretrained(scratch)
        for name in _BESIDE:
            if beside is not None and (beside / name).is_file():
                shutil.copy(beside / name, scratch)
        loaded = transformers.AutoModel.from_pretrained(scratch)
        difference = None if example is None else _compare(network, loaded, example)
        if folder.exists():
            shutil.rmtree(folder)
        scratch.chmod(0o755)
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    written = sorted(path.name for path in folder.iterdir())
    size = sum((folder / name).stat().st_size for name in written)
    checked = (
        "loaded by AutoModel" if difference is None
        else f"loaded by AutoModel, which answers as before (largest difference {difference:.2g})"
    )  # fmt: skip
    text = (
        f"{FOLDER_FORMAT} fp32: {folder} ({', '.join(written)})\n"
        f"  {size / 1e6:.3g} MB; {checked} of transformers {transformers.__version__}\n"
        f'  import pruner, transformers; transformers.AutoModel.from_pretrained("{folder}")'
    )
    data = {
        "folder": str(folder),
        "format": FOLDER_FORMAT,
        "size_bytes": size,
        "difference": difference,
    }
    return Outcome(text, data)


def _check_place(folder: Path) -> None:
    """Raise PrunerError where something else would be overwritten."""
    if not folder.exists():
        return
    try:
        ours = json.loads((folder / _CONFIG).read_text("utf-8")).get("model_type") == "msprune"
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours and (not folder.is_dir() or any(folder.iterdir())):
        raise PrunerError(f"--out: {folder} holds something else; name a new folder")


def _compare(network: fx.GraphModule, loaded: Any, example: Example) -> float:
    """Return the largest difference of two networks' answers; PrunerError where there is one."""
    results = []
    for module in (network, loaded):
        with torch.no_grad(), evaluation_mode(module):
            results.append(pytree.tree_leaves(module(*example.args, **example.kwargs)))
    worst = 0.0
    for one, other in zip(*results, strict=True):
        if isinstance(one, torch.Tensor) and one.numel():
            worst = max(worst, float((one.double() - other.double()).abs().nan_to_num().max()))
    if worst > 0:
        raise PrunerError(
            f"--format {FOLDER_FORMAT}: what AutoModel loads answers otherwise, by {worst:.2g}"
        )
    return worst
