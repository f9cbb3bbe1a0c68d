"""Networks as LiteRT files, for LiteRT's own tools."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..errors import EngineError, UnknownEngineError
from ..source import Probe


def export_litert(probe: Probe) -> bytes:
    """Convert a network to a LiteRT file, in fp32 and at the batch of its inputs.

    Raises:
        UnknownEngineError: litert-torch is not installed here.
        EngineError: It refuses the network.
    """
    try:
        import litert_torch
    except ImportError as error:
        raise UnknownEngineError(
            f"LiteRT files are made here by litert-torch ({error}): pip install 'msprune[litert]'"
        ) from error
    with tempfile.TemporaryDirectory(prefix="latency_tables_") as scratch:
        file = Path(scratch) / "model.tflite"
        try:
            litert_torch.convert(probe.module, probe.inputs).export(str(file))
        except Exception as error:  # of many libraries, without a common base
            said = " ".join(str(error).split())
            raise EngineError(f"litert-torch refuses the network: {said[:300]}") from error
        return file.read_bytes()
