"""Options of the command line that set an entry of `Config`: type, help and default are its."""

import argparse
import typing
from typing import Any

from .config import Config

MODEL_OPTIONS = {
    "--weights": "weights", "--pretrained": "pretrained", "--input": "input", "--arg": "arguments",
    "--submodule": "submodule", "--seed": "seed",
}  # fmt: skip
MEASURE_OPTIONS = {
    "--out": "out", "--engine": "measure.engine", "--threads": "measure.threads",
    "--precision": "measure.precision", "--batch": "measure.batch", "--probes": "measure.probes",
    "--quick": "measure.quick", "--library": "measure.library", "--device": "measure.device",
    "--python": "measure.python", "--tool": "measure.tool",
    "--with-weights": "measure.with_weights",
}  # fmt: skip
DEVICE_OPTIONS = {
    k: MEASURE_OPTIONS[k] for k in ("--engine", "--threads", "--precision", "--python", "--tool")
}
SOLVE_OPTIONS = {
    "--budget": "budgets", "--data": "data", "--task": "task", "--target-data": "target_data",
    "--criterion": "score.criterion", "--curves": "score.curves", "--combine": "score.combine",
    "--images": "score.images", "--rounds": "rounds.count", "--round-epochs": "rounds.epochs",
    "--strategy": "solve.strategy", "--progressive-steps": "solve.progressive_steps",
    "--progressive-picks": "solve.progressive_picks", "--progressive-by": "solve.progressive_by",
    "--explore-rounds": "solve.explore_rounds", "--explore-steps": "solve.explore_steps",
    "--trials": "solve.trials", "--margin": "solve.margin", "--time-limit": "solve.time_limit_s",
    "--no-check": "solve.check", "--also": "solve.also", "--keep": "solve.keep",
    "--min-width": "solve.min_width", "--step": "solve.step", "--no-blocks": "solve.blocks",
    "--max-depth": "solve.max_depth", "--uniform": "solve.uniform",
}  # fmt: skip
_ONE_STRUCTURE = (
    "--budget", "--rounds", "--round-epochs", "--trials", "--no-check", "--strategy",
    "--progressive-steps", "--progressive-picks", "--progressive-by", "--explore-rounds",
    "--explore-steps",
)  # fmt: skip
FRONTIER_OPTIONS = {k: v for k, v in SOLVE_OPTIONS.items() if k not in _ONE_STRUCTURE}
FINETUNE_OPTIONS = {
    "--data": "data", "--task": "task",
    "--epochs": "finetune.epochs", "--repair": "finetune.repair", "--lr": "finetune.lr",
    "--batch": "finetune.batch", "--optimizer": "finetune.optimizer",
    "--images": "finetune.images",
}  # fmt: skip
EXPORT_OPTIONS = {"--data": "data", "--task": "task"}
TEMPLATE_OPTIONS = {"--data": "data", "--task": "task", "--budget": "budgets"}
REQUIRED = ("--out",)
METAVARS = {
    "--weights": "FILE", "--input": "INPUT", "--arg": "NAME=VALUE", "--submodule": "PATH",
    "--out": "RUN", "--library": "DIR", "--device": "WHERE", "--python": "PATH",
    "--tool": "COMMAND",
    "--data": "DIR", "--target-data": "DIR", "--task": "NAME",
    "--rounds": "K", "--round-epochs": "N",
    "--strategy": "NAME", "--progressive-steps": "N", "--progressive-picks": "N",
    "--progressive-by": "NAME", "--explore-rounds": "N", "--explore-steps": "H,J,Q",
    "--trials": "N", "--time-limit": "S", "--also": "RESOURCE=N", "--keep": "GLOB",
    "--min-width": "GLOB=N", "--step": "GLOB=N", "--max-depth": "N", "--uniform": "GLOB",
}  # fmt: skip
# What stands for the default of an entry whose own is none here.
DEFAULTS = {"finetune.epochs": "as RUN's configuration"}
ENTRY = "entry."  # before the names of what sets an entry, among all that is parsed


def add_option(verb: argparse.ArgumentParser, flag: str, entry: str) -> None:
    """Add an option with the type, help and default of its entry."""
    owner, name = Config, entry
    if "." in entry:
        section, name = entry.split(".")
        owner = typing.get_type_hints(Config)[section]
    field: Any = owner.__pydantic_fields__[name]  # type: ignore[attr-defined]
    hint = typing.get_type_hints(owner)[name]
    kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)]
    text, default = field.description, DEFAULTS.get(entry, field.default)
    keywords: dict[str, Any] = {"dest": ENTRY + entry, "required": flag in REQUIRED}
    if kinds == [bool]:
        text = text if flag == f"--{name.replace('_', '-')}" else f"do not {text}"
        keywords |= {"action": "store_const", "const": not field.default}
    else:
        keywords["metavar"] = METAVARS.get(flag, flag[2:].upper().replace("-", "_"))
        several = typing.get_origin(hint) in (dict, tuple) or entry in ("input", "submodule")
        if several and entry not in ("budgets", "solve.explore_steps"):
            keywords["action"] = "append"
        elif kinds in ([int], [float]):
            keywords["type"] = kinds[0]
        if isinstance(default, (int, float, str)):
            text = f"{text} (default {default})"
    verb.add_argument(flag, help=text.replace("%", "%%"), **keywords)
