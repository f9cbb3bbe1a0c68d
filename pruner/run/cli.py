"""The command line: arguments in, lines out. What is done is in `pruner.run`."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

DESCRIPTION = "Prune a vision network to a latency budget that is measured on your device."
EPILOG = """\
MODEL is timm:NAME, torchvision:NAME, hf:NAME (a transformers class, or a folder: hf:./FOLDER),
package.module:factory or demo:resnet20; weights are random without --weights FILE.
DIR is an image folder: train/CLASS/*.jpg and test/CLASS/*.jpg (or val/).
Every step reads and resumes from RUN; the same command again continues after an interruption."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    from latency_tables import LatencyError
    from solver.errors import SolverError

    from ..errors import PrunerError

    if not options.debug:
        warnings.filterwarnings("ignore")  # other libraries' remarks are none of the user's concern
    try:
        options.verb(options)
        sys.stdout.flush()
    except (PrunerError, LatencyError, SolverError) as error:
        if options.debug:
            raise
        print(f"msprune: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output went away, e.g. head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        if options.debug:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"msprune: {place}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("msprune: interrupted; the same command again continues", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="msprune",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"msprune {_version()}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, action: Callable[[Any], None], text: str) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        verb.add_argument("--debug", action="store_true", help="show tracebacks and warnings")
        verb.set_defaults(verb=action)
        return verb

    verb = add("inspect", _inspect, "show what of a network can be pruned, and what not and why")
    _add_model(verb)
    verb.add_argument("--all", action="store_true", help="every dim, block and cell by itself")

    verb = add("measure", _measure, "measure the network's latency table on this device")
    _add_model(verb)
    verb.add_argument("--out", metavar="RUN", required=True, help="the folder of this run")
    verb.add_argument("--engine", help="onnxruntime (default), openvino, tensorrt or torch")
    verb.add_argument("--threads", type=int, help="threads of one inference (default 1)")
    verb.add_argument("--precision", help="fp32 (default), fp16, bf16 or int8: what the engine has")
    verb.add_argument("--batch", type=int, help="images of one inference (default: as the input)")
    verb.add_argument("--probes", type=int, help="networks to time (default: as it takes)")
    verb.add_argument("--quick", action="store_true", default=None, help="a coarse table, soon")
    verb.add_argument(
        "--library",
        metavar="DIR",
        help="tables that networks share (default: this user's own; none: off)",
    )

    verb = add("solve", _solve, "choose the structure for a budget, prove it, and cut the network")
    _add_run(verb)
    verb.add_argument("--budget", required=True, help="50%% (of dense), 12ms or 80fps")
    verb.add_argument("--data", metavar="DIR", help="images for the scores")
    verb.add_argument(
        "--criterion",
        help="measured (default); refined is slower and better; taylor; magnitude needs no data",
    )
    verb.add_argument("--images", type=int, help="images that the scores look at")
    verb.add_argument(
        "--rounds", type=int, metavar="K", help="score, solve and tune K times on the way (1)"
    )
    verb.add_argument(
        "--round-epochs", type=int, metavar="N", help="epochs of tuning between rounds (1)"
    )
    verb.add_argument(
        "--trials", type=int, metavar="N", help="structures to try out before one is chosen (0)"
    )
    verb.add_argument("--margin", help="share of the budget to keep free: 0.02, or auto")
    verb.add_argument("--time-limit", type=float, metavar="S", help="seconds a solve may take")
    verb.add_argument(
        "--no-check",
        dest="check",
        action="store_false",
        default=None,
        help="do not measure the chosen structure",
    )

    verb = add("finetune", _finetune, "win accuracy back, with the dense network as the teacher")
    _add_run(verb)
    verb.add_argument("--data", metavar="DIR", help="training and test images")
    verb.add_argument(
        "--epochs", type=int, help="0: batch-norm statistics only (default: as RUN's configuration)"
    )
    verb.add_argument("--repair", type=int, help="images to refit cut layers on first")
    verb.add_argument("--lr", type=float)
    verb.add_argument("--batch", type=int, help="images a step (default 128)")
    verb.add_argument("--optimizer", help="sgd or adamw")
    verb.add_argument("--images", type=int, help="training images (default: all)")

    verb = add("bench", _bench, "time dense and pruned in turn: measured against predicted")
    _add_run(verb)
    verb.add_argument("--runs", type=int, default=200, help="runs of each (default 200)")

    verb = add("report", _report, "write RUN/report.html, one self-contained file")
    _add_run(verb)

    verb = add("run", _run, "all of it, from a configuration file")
    verb.add_argument("config", metavar="CONFIG.yaml")
    verb.add_argument("--out", metavar="RUN", help="overrides the file's out")
    verb.add_argument(
        "--until", choices=("measure", "solve"), help="end after this step; finetune does the rest"
    )

    verb = add("tables", _tables, "list, show, merge or compare latency tables")
    verb.add_argument("action", choices=("list", "show", "merge", "diff"))
    verb.add_argument("paths", metavar="TABLE", nargs="*", help="a RUN, a table's folder or file")
    verb.add_argument("--library", metavar="DIR", help="default: this user's own")
    verb.add_argument("--out", metavar="DIR", help="where merge writes")

    verb = add("demo", _demo, "all of it on an embedded network and real images, in minutes")
    verb.add_argument("--out", metavar="RUN", default="runs/demo", help="default runs/demo")
    return parser


def _add_model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", metavar="MODEL")
    verb.add_argument("--weights", metavar="FILE", help=".safetensors or .pth (default: random)")
    verb.add_argument(
        "--input",
        metavar="SHAPE",
        help="1x3x224x224, of the images where there are several (default: the model's own)",
    )
    verb.add_argument(
        "--arg",
        dest="arguments",
        metavar="NAME=VALUE",
        action="append",
        help="an argument of the model's factory or configuration, e.g. num_classes=10",
    )
    verb.add_argument(
        "--submodule",
        metavar="PATH",
        help="prune only this part of the model, e.g. a detector's backbone",
    )
    verb.add_argument("--seed", type=int, help="default 0")


def _add_run(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("run", metavar="RUN")


def _inspect(options: argparse.Namespace) -> None:
    from . import commands as run

    print(run.inspect(_model_config(options), _progress(), options.all))


def _measure(options: argparse.Namespace) -> None:
    from . import commands as run

    config = _model_config(
        options,
        out=options.out,
        measure=_given(
            options, "engine", "threads", "precision", "batch", "probes", "quick", "library"
        ),
    )
    print(run.measure(config, _progress()))


def _solve(options: argparse.Namespace) -> None:
    from . import commands as run

    changes = {
        "budgets": [options.budget],
        **_given(options, "data"),
        "score": _given(options, "criterion", "images"),
        "rounds": {
            **({"count": options.rounds} if options.rounds is not None else {}),
            **({"epochs": options.round_epochs} if options.round_epochs is not None else {}),
        },
        "solve": {
            **_given(options, "trials", "margin", "check"),
            **({"time_limit_s": options.time_limit} if options.time_limit is not None else {}),
        },
    }
    print(run.solve(options.run, changes, _progress()))


def _finetune(options: argparse.Namespace) -> None:
    from . import commands as run

    names = ("epochs", "repair", "lr", "batch", "optimizer", "images")
    changes = {**_given(options, "data"), "finetune": _given(options, *names)}
    from ..utils import leave_process_group

    outcome = run.finetune(options.run, changes, _progress())
    leave_process_group()
    if outcome.text:  # the first of several processes speaks for all
        print(outcome)


def _bench(options: argparse.Namespace) -> None:
    from . import commands as run

    print(run.bench(options.run, options.runs, _progress()))


def _report(options: argparse.Namespace) -> None:
    from . import commands as run

    print(run.report(options.run))


def _run(options: argparse.Namespace) -> None:
    from . import commands as run
    from .config import Config

    config = Config.from_yaml(options.config)
    print(run.run(config.changed(_given(options, "out")), _progress(), until=options.until))


def _tables(options: argparse.Namespace) -> None:
    from . import table_commands as tables

    if options.action == "list":
        print(tables.list_tables(options.library))
    elif options.action == "show":
        print("\n\n".join(tables.show_table(path) for path in tables.require_paths(options.paths)))
    elif options.action == "merge":
        print(tables.merge_tables(tables.require_paths(options.paths, 2), options.out))
    else:
        print(tables.compare_tables(*tables.require_paths(options.paths, 2, 2)))


def _demo(options: argparse.Namespace) -> None:
    from . import commands as run

    print(run.demo(options.out, _progress()))


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given: None means the default, or what RUN says already."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _model_config(options: argparse.Namespace, **more: Any) -> Any:
    from .config import Config, parse_arguments

    content = {
        "model": options.model,
        **_given(options, "weights", "input", "submodule", "seed"),
        **more,
    }
    return Config.from_dict({**content, "arguments": parse_arguments(options.arguments or ())})


def _progress() -> Any:
    from ..utils import ProgressDisplay

    return ProgressDisplay()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("msprune")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "(not installed)"
