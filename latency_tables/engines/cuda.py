"""A GPU's memory, stream and events: through pycuda, or through torch where it has CUDA."""

import atexit
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..device import Device
from ..errors import EngineError


class PycudaCuda:
    """Through pycuda's driver interface, in the device's primary context, which others share.

    Attributes:
        name: The model.
        capability: Its compute capability (major, minor).
        multiprocessors: How many it has.
        stream: The stream's handle, an address.
    """

    library = "pycuda"

    def __init__(self) -> None:
        import pycuda.driver as driver

        driver.init()
        device = driver.Device(0)
        self._driver = driver
        self._context = device.retain_primary_context()
        self._context.push()
        # pycuda aborts a process that leaves a context on its stack.
        atexit.register(self._context.pop)
        self._stream = driver.Stream()
        self.stream = int(self._stream.handle)
        self.name = str(device.name())
        self.capability = tuple(device.compute_capability())
        self.multiprocessors = int(
            device.get_attribute(driver.device_attribute.MULTIPROCESSOR_COUNT)
        )

    def upload(self, array: NDArray[Any]) -> Any:
        """Copy to memory on the GPU; ``address`` tells where."""
        return self._driver.to_device(np.ascontiguousarray(array))

    def reserve(self, size_bytes: int) -> Any:
        """Allocate memory of any content."""
        return self._driver.mem_alloc(max(size_bytes, 1))

    def address(self, memory: Any) -> int:
        """Return where memory lies."""
        return int(memory)

    def time_call(self, call: Callable[[], Any]) -> float:
        """Time what a call puts on the stream, in ms between two events around it."""
        before, after = self._driver.Event(), self._driver.Event()
        before.record(self._stream)
        call()
        after.record(self._stream)
        after.synchronize()
        return float(before.time_till(after))

    def synchronize(self) -> None:
        """Wait until the stream is idle."""
        self._stream.synchronize()


class TorchCuda:
    """Through torch, for machines without pycuda; attributes as ``PycudaCuda``."""

    library = "torch"

    def __init__(self) -> None:
        import torch

        if not torch.cuda.is_available():
            raise EngineError(f"torch {torch.__version__} finds no CUDA device")
        properties = torch.cuda.get_device_properties(0)
        self._torch = torch
        self._stream = torch.cuda.Stream()
        self.stream = int(self._stream.cuda_stream)
        self.name = str(properties.name)
        self.capability = (int(properties.major), int(properties.minor))
        self.multiprocessors = int(properties.multi_processor_count)

    def upload(self, array: NDArray[Any]) -> Any:
        """Copy to memory on the GPU."""
        raw = np.frombuffer(np.ascontiguousarray(array).tobytes(), dtype=np.uint8)
        memory = self._torch.from_numpy(raw.copy()).cuda()
        self._torch.cuda.synchronize()
        return memory

    def reserve(self, size_bytes: int) -> Any:
        """Allocate memory of any content."""
        return self._torch.empty(max(size_bytes, 1), dtype=self._torch.uint8, device="cuda")

    def address(self, memory: Any) -> int:
        """Return where memory lies."""
        return int(memory.data_ptr())

    def time_call(self, call: Callable[[], Any]) -> float:
        """Time what a call puts on the stream, in ms between two events around it."""
        before, after = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record(self._stream)
        call()
        after.record(self._stream)
        after.synchronize()
        return float(before.elapsed_time(after))

    def synchronize(self) -> None:
        """Wait until the stream is idle."""
        self._stream.synchronize()


Cuda: TypeAlias = PycudaCuda | TorchCuda
"""One GPU and one stream on it."""


def open_cuda() -> Cuda:
    """Open the first visible GPU; raise ``EngineError`` that says what is missing."""
    reasons = []
    for make in (PycudaCuda, TorchCuda):
        try:
            return make()
        except Exception as error:  # pycuda raises classes of its own, without a common base
            reasons.append(f"{make.library}: {' '.join(str(error).split())}")
    raise EngineError(
        f"no GPU can be used ({'; '.join(reasons)}). Run this on a machine with an NVIDIA GPU and "
        "its driver, with pycuda (pip install pycuda; it needs the CUDA toolkit) or a CUDA build "
        "of torch"
    )


def describe_gpu(
    cuda: Cuda, engine: str, engine_version: str, precision: str, options: str = ""
) -> Device:
    """Describe a GPU, used by an engine in a setting."""
    major, minor = cuda.capability
    return Device(
        cuda.name, f"sm_{major}{minor}", cuda.multiprocessors,
        f"{platform.system()} {platform.machine()}", engine, engine_version, 1, precision,
        driver=_read_driver_version(), options=options, host=platform.node(),
    )  # fmt: skip


def _read_driver_version() -> str:
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="utf-8").strip()
    except OSError:
        pass
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    return next((word for word in text.split() if word[:1].isdigit() and "." in word), "unknown")
