"""The command line: arguments in, lines out. What a verb does is the function of its name."""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TextIO, TypeAlias

from latency_tables import LatencyError
from solver import SolverError

from ..errors import PrunerError, PrunerWarning
from ..formats import format_names
from ..utils import ProgressDisplay, leave_process_group
from . import commands
from . import table_commands as tables
from .cli_options import (
    DEVICE_OPTIONS,
    ENTRY,
    EXPORT_OPTIONS,
    FINETUNE_OPTIONS,
    FRONTIER_OPTIONS,
    MEASURE_OPTIONS,
    MODEL_OPTIONS,
    SOLVE_OPTIONS,
    TEMPLATE_OPTIONS,
    add_option,
)
from .comparison import compare
from .config import Config, MeasureConfig, nest_entries
from .config_template import init
from .console_summary import Outcome
from .context import find_versions
from .device_commands import check_device
from .doctor import doctor
from .elsewhere import show_commands
from .export_stage import export
from .finetune_stage import finetune
from .frontier_stage import POINTS, frontier, pick_budget
from .measure_stage import measure
from .pairs import parse_pairs
from .solve_stage import solve

DESCRIPTION = "Prune a vision network to a latency budget that is measured on your device."
EPILOG = """\
MODEL is timm:NAME, torchvision:NAME, hf:NAME (a transformers class, or a folder: hf:./FOLDER),
hf:ORG/NAME, package.module:factory or demo:resnet20; weights are random without --weights
FILE or --pretrained.
DIR is an image folder: train/CLASS/*.jpg and test/CLASS/*.jpg (or val/).
Every step reads and resumes from RUN; the same command again continues after an interruption."""


_SET = "set"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    options = _build_parser().parse_args(arguments)
    with warnings.catch_warnings():
        if not options.debug:
            warnings.filterwarnings("ignore")  # other libraries' remarks are not the user's concern
            warnings.filterwarnings("always", category=PrunerWarning)
            warnings.showwarning = _show_warning
        return _call_verb(options)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"msprune: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _call_verb(options: argparse.Namespace) -> int:
    try:
        with show_commands(options.verbose):
            text = str(options.verb(options))
        if text:  # of several processes, the first speaks for all
            _print(text, sys.stdout)
        sys.stdout.flush()
    except (PrunerError, LatencyError, SolverError) as error:
        if options.debug:
            raise
        _print(f"msprune: {' '.join(str(error).split())}", sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output went away, e.g. head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        if options.debug:
            raise
        place = f"{error.filename}: " if error.filename else ""
        _print(f"msprune: {place}{error.strerror or error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("msprune: interrupted; the same command again continues", file=sys.stderr)
        return 130
    return 0


def _print(text: str, stream: TextIO) -> None:
    """Print a text, with what the stream has no letters for escaped: names of files may hold it."""
    kind = stream.encoding or "utf-8"
    print(text.encode(kind, "backslashreplace").decode(kind), file=stream)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit."""
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help)\n")


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="msprune",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = find_versions().get("msprune", "(not installed)")  # a checkout may not be
    parser.add_argument("--version", action="version", version=f"msprune {version}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, action: Callable[[Any], object], text: str) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        verb.add_argument("--debug", action="store_true", help="show tracebacks and warnings")
        verb.add_argument("--verbose", action="store_true", help="show what is run elsewhere")
        verb.set_defaults(verb=action)
        return verb

    _add_steps(add)
    _add_other_verbs(add)
    return parser


_Add: TypeAlias = Callable[[str, Callable[[Any], object], str], argparse.ArgumentParser]
"""Adds a verb: its name, what it calls, and what it does in words."""


def _add_steps(add: _Add) -> None:
    """Add the verbs of one network: look, measure, solve, tune, time."""
    verb = add("inspect", _inspect, "show what of a network can be pruned, and what not and why")
    _add_arguments(verb, f"{ENTRY}model", MODEL_OPTIONS)
    verb.add_argument("--all", action="store_true", help="every dim, block and cell by itself")
    verb = add("measure", _measure, "measure the network's latency table on this device")
    _add_arguments(verb, f"{ENTRY}model", MODEL_OPTIONS | MEASURE_OPTIONS)
    verb = add("solve", _solve, "choose the structure for a budget, prove it, and cut the network")
    _add_arguments(verb, "run", SOLVE_OPTIONS)
    verb.add_argument(
        "--pick", metavar="knee|N", help="the budget of a point of RUN's frontier, instead of one"
    )
    verb = add("frontier", _frontier, "solve for all budgets of a RUN, and show the trade")
    _add_arguments(verb, "run", FRONTIER_OPTIONS)
    verb.add_argument("--points", type=int, default=POINTS, help="budgets (default %(default)s)")
    verb = add("finetune", _finetune, "win back what was lost, with dense as the teacher")
    _add_arguments(verb, "run", FINETUNE_OPTIONS)
    verb = add(
        "bench", lambda options: commands.bench(options.run, options.runs, ProgressDisplay()),
        "time dense and pruned in turn: measured against predicted",
    )  # fmt: skip
    verb.add_argument("run", metavar="RUN")
    verb.add_argument("--runs", type=int, default=200, help="runs of each (default %(default)s)")
    verb = add("export", _export, "write the cut network for another runtime, and check it there")
    _add_arguments(verb, "run", EXPORT_OPTIONS)
    verb.add_argument("--format", required=True, help=", ".join(format_names()))
    verb.add_argument(
        "--out", metavar="FILE", help="default: RUN/model with the format's ending, RUN/hf of hf"
    )
    verb.add_argument("--precision", default="fp32", help="fp32, fp16, int8 (default %(default)s)")
    verb.add_argument("--target", metavar="SM89", help="the GPU of a TensorRT engine, if not here")


def _add_other_verbs(add: _Add) -> None:
    """Add the verbs that take a RUN, a configuration or tables, and the demo."""
    verb = add(
        "report", lambda options: commands.report(options.run),
        "write RUN/report.html, one self-contained file",
    )  # fmt: skip
    verb.add_argument("run", metavar="RUN")
    verb = add(
        "compare", lambda options: compare(options.runs, options.page),
        "lay several RUNs side by side",
    )  # fmt: skip
    verb.add_argument("runs", metavar="RUN", nargs="+")
    verb.add_argument("--page", metavar="FILE.html", help="write it as a page too, with a plot")
    verb = add("run", _run, "all of it, from a configuration file")
    verb.add_argument("config", metavar="CONFIG.yaml")
    verb.add_argument("--out", metavar="RUN", dest=f"{ENTRY}out", help="overrides the file's out")
    verb.add_argument(
        "--until", choices=("measure", "solve"), help="end after this step; finetune does the rest"
    )
    _add_set(verb)
    verb = add("init", _init, "write a commented configuration file to begin with")
    _add_arguments(verb, f"{ENTRY}model", MODEL_OPTIONS | TEMPLATE_OPTIONS)
    verb.add_argument("--file", metavar="FILE", default="msprune.yaml", help="default %(default)s")
    verb = add("tables", _tables, "list, show, merge or compare latency tables")
    verb.add_argument("action", choices=("list", "show", "merge", "diff"))
    verb.add_argument("paths", metavar="TABLE", nargs="*", help="a RUN, a table's folder or file")
    verb.add_argument("--library", metavar="DIR", help="default: this user's own")
    verb.add_argument("--out", metavar="DIR", help="where merge writes")
    verb = add("device", _device, "say what a device elsewhere is, and what is missing there")
    verb.add_argument("action", choices=("check",))
    verb.add_argument("device", metavar="WHERE", help="ssh:HOST or adb:SERIAL")
    for flag, entry in DEVICE_OPTIONS.items():
        add_option(verb, flag, entry)
    verb = add("doctor", _doctor, "say what is here, what is missing, and what installs it")
    verb.add_argument("--json", action="store_true", help="as plain data")
    verb = add(
        "demo", lambda options: commands.demo(options.out, ProgressDisplay()),
        "all of it on an embedded network and real images, in minutes",
    )  # fmt: skip
    verb.add_argument("--out", metavar="RUN", default="runs/demo", help="default %(default)s")


def _add_arguments(verb: argparse.ArgumentParser, name: str, options: Mapping[str, str]) -> None:
    """Add MODEL or RUN, and options that set entries."""
    verb.add_argument(name, metavar=name.removeprefix(ENTRY).upper())
    for flag, entry in options.items():
        add_option(verb, flag, entry)
    _add_set(verb)


def _add_set(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--set", metavar="ENTRY=VALUE", action="append", dest=_SET, default=[],
        help="any entry of a configuration file, e.g. finetune.lr=0.01",
    )  # fmt: skip


def _collect_entries(options: argparse.Namespace) -> dict[str, Any]:
    """Return the entries that were given: others have their default, or what RUN says already."""
    entries: dict[str, Any] = {}
    given = nest_entries(parse_pairs("--set", getattr(options, _SET, ())))
    for name, value in vars(options).items():
        if not name.startswith(ENTRY) or value is None:
            continue
        *section, name = name.removeprefix(ENTRY).split(".")
        where = entries.setdefault(section[0], {}) if section else entries
        pairs = name in ("arguments", "min_width", "step")
        flag = "--arg" if name == "arguments" else f"--{name.replace('_', '-')}"
        where[name] = parse_pairs(flag, value) if pairs else value
    for name, content in given.items():
        merge = isinstance(content, Mapping) and isinstance(entries.get(name), dict)
        entries[name] = {**entries[name], **content} if merge else content
    return entries


def _inspect(options: argparse.Namespace) -> Outcome:
    config = Config.from_dict(_collect_entries(options))
    return commands.inspect(config, ProgressDisplay(), options.all)


def _measure(options: argparse.Namespace) -> Outcome:
    return measure(Config.from_dict(_collect_entries(options)), ProgressDisplay())


def _solve(options: argparse.Namespace) -> Outcome:
    entries = _collect_entries(options)
    if (options.pick is None) == ("budgets" not in entries):
        raise PrunerError("solve takes one of --budget 50%, 12ms or 80fps, and --pick knee or N")
    if options.pick is not None:
        entries["budgets"] = pick_budget(options.run, options.pick)
    return solve(options.run, entries, ProgressDisplay())


def _frontier(options: argparse.Namespace) -> Outcome:
    return frontier(options.run, options.points, _collect_entries(options), ProgressDisplay())


def _finetune(options: argparse.Namespace) -> Outcome:
    outcome = finetune(options.run, _collect_entries(options), ProgressDisplay())
    leave_process_group()
    return outcome


def _export(options: argparse.Namespace) -> Outcome:
    return export(
        options.run, options.format, options.out, precision=options.precision,
        target=options.target, changes=_collect_entries(options), progress=ProgressDisplay(),
    )  # fmt: skip


def _run(options: argparse.Namespace) -> Outcome:
    config = Config.from_yaml(options.config).with_changes(_collect_entries(options))
    return commands.run(config, ProgressDisplay(), until=options.until)


def _init(options: argparse.Namespace) -> Outcome:
    entries = {"out": "runs/example", "budgets": ["70%", "50%"], **_collect_entries(options)}
    return init(Config.from_dict(entries), options.file)


def _device(options: argparse.Namespace) -> Outcome:
    entries = _collect_entries(options).get("measure", {})
    return check_device(options.device, MeasureConfig(**entries))


def _doctor(options: argparse.Namespace) -> str:
    outcome = doctor()
    return json.dumps(outcome.data, indent=1) if options.json else str(outcome)


def _tables(options: argparse.Namespace) -> str:
    return tables.run_action(options.action, options.paths, options.library, options.out)
