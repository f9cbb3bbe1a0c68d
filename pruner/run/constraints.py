"""What section solve asks beside the latency budget, its other RUNs' tables opened."""

from latency_tables import LatencyTable

from ..errors import PrunerError
from ..problem import RESOURCES, Constraints, Limit
from .context import Workspace
from .model_input import describe_input, set_single_batch
from .run_folder import LATENCY, RunFolder


def load_constraints(space: Workspace) -> Constraints:
    """Return the constraints of a RUN's configuration.

    Raises:
        PrunerError: A limit that cannot be read, or of a RUN that holds no table of this network.
    """
    options = space.config.solve
    return Constraints(
        limits=tuple(
            Limit.parse(text, lambda run: _open_table(space, run)) for text in options.also
        ),
        keep=options.keep,
        min_width=options.min_width,
        step=options.step,
        blocks=options.blocks,
        max_depth=options.max_depth,
        uniform=options.uniform,
    )


def _open_table(space: Workspace, run: str) -> LatencyTable:
    """Return the latency table of another RUN of this network, on whatever device."""
    folder = RunFolder(run)
    if not folder.exists or not (folder / LATENCY).is_file():
        raise PrunerError(
            f"--also {run}=...: neither {', '.join(RESOURCES)} nor the folder of a RUN with a "
            "measured table"
        )
    known, own = folder.read_state()["identity"], space.base.read_state()["identity"]
    for what in ("model", "submodule"):
        if known.get(what) != own.get(what):
            raise PrunerError(
                f"--also {run}: a table of {what} {known.get(what)}, not of {own.get(what)}"
            )
    if set_single_batch(known["input"]) != set_single_batch(own["input"]):
        raise PrunerError(
            f"--also {run}: a table of input {describe_input(known['input'])}, not of "
            f"{describe_input(own['input'])}"
        )
    return LatencyTable.load(folder.path)
