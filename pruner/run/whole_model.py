"""Times the whole model that a part was pruned in, by torch: what the user will run."""

import time
from statistics import median

import torch

from latency_tables import RemoteEngine

from ..errors import first_line
from ..models import Host
from .context import Workspace
from .metrics import WholeMetrics

RUNS, SECONDS = 20, 10.0


def time_whole(space: Workspace, small: torch.nn.Module) -> WholeMetrics | None:
    """Time the whole with the dense part and with the pruned one, in turn.

    Returns:
        The medians; None where the network is pruned as a whole, is timed on a device elsewhere, or
        torch cannot run it, which is said.
    """
    paths, dense = space.config.parts, space.dense
    if not paths or isinstance(space.engine, RemoteEngine):  # torch is not over there
        return None
    host, example = Host(dense.module, *paths), space.example
    parts = {"dense": host.split(space.net.module), "pruned": host.split(small)}
    laps: dict[str, list[float]] = {name: [] for name in parts}
    threads, until = torch.get_num_threads(), time.monotonic() + SECONDS
    torch.set_num_threads(space.config.measure.threads)
    try:
        with torch.inference_mode():
            for number in range(-1, RUNS):
                for name, part in parts.items():
                    with host.put(*part) as whole:
                        begun = time.perf_counter()
                        whole(*example.args, **example.kwargs)
                        if number >= 0:  # the first one warms up
                            laps[name].append(1e3 * (time.perf_counter() - begun))
                if number > 0 and time.monotonic() > until:
                    break
    except Exception as error:  # whatever the user's network raises
        space.progress.say(f"  torch cannot run the whole of {dense.name}: {first_line(error)}")
        return None
    finally:
        torch.set_num_threads(threads)
    return WholeMetrics(
        dense_ms=median(laps["dense"]), pruned_ms=median(laps["pruned"]), runs=len(laps["dense"])
    )
