"""``python -m solver FILE.json``: solve a problem and print its solution."""

import argparse
import json
import math
import sys
from dataclasses import asdict

from .errors import SolverError
from .problem import Problem
from .search import SolveProgress
from .solve import METHODS, solve


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0 with a choice, 1 without one, 2 after misuse."""
    parser = argparse.ArgumentParser(
        prog="python -m solver", description="Solve a problem in JSON form and print the solution."
    )
    parser.add_argument("file", help="the problem")
    parser.add_argument("--method", default="auto", choices=METHODS)
    parser.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="RESOURCE=NUMBER",
        help="replaces the file's budget for that resource; may be repeated",
    )
    parser.add_argument("--gap", type=float, default=0.0, help="relative gap to stop at")
    parser.add_argument("--time-limit", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--explain", action="store_true", help="print prices and next options too")
    parser.add_argument("--json", action="store_true", help="print the solution as JSON")
    given = parser.parse_args(arguments)
    try:
        problem = Problem.from_json(given.file)
        budgets = {**problem.budgets, **dict(_parse_budget(b) for b in given.budget)}
        solution = solve(
            problem,
            method=given.method,
            budgets=budgets,
            gap=given.gap,
            time_limit_s=given.time_limit,
            progress=_print_progress if sys.stderr.isatty() else None,
        )
        if given.json:
            print(
                json.dumps(_replace_infinities(asdict(solution) | {"gap": solution.gap}), indent=1)
            )
        else:
            print(f"{problem.name}: {solution}")
            if solution.choice is not None:
                for variable, option in solution.choice.items():
                    print(f"  {variable} = {option}")
        if given.explain and solution.choice is not None:
            print(solution.explain(problem))
    except SolverError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if solution.choice is not None else 1


def _parse_budget(text: str) -> tuple[str, float]:
    resource, _, number = text.rpartition("=")
    try:
        return resource, float(number)
    except ValueError:
        raise SolverError(f"--budget takes RESOURCE=NUMBER, not {text!r}") from None


def _print_progress(progress: SolveProgress) -> None:
    print(
        f"\r{progress.seconds:7.1f} s  {progress.stage:<40} "
        f"value {progress.value:.8g}  bound {progress.bound:.8g}\033[K",
        end="\r",
        file=sys.stderr,
    )


def _replace_infinities(item: object) -> object:
    """Return plain data with None for infinities, which JSON does not have."""
    if isinstance(item, dict):
        return {k: _replace_infinities(v) for k, v in item.items()}
    if isinstance(item, (list, tuple)):
        return [_replace_infinities(v) for v in item]
    if isinstance(item, float) and not math.isfinite(item):
        return None
    return item


if __name__ == "__main__":
    sys.exit(main())
