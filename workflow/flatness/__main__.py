"""The command `python -m flatness <verb>`: finds the verb's function and runs it.

It contains no logic: each verb's command is in the module of its stage, and only that module is
imported.
"""

import ast
import importlib
import os
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

from flatness.errors import UserError
from flatness.extras import explain
from flatness.report.figure_list import DRAWING

try:
    import typer
    from pydantic import ValidationError
except ModuleNotFoundError as error:  # only the measures were asked for
    print(f"error: {explain(error)}", file=sys.stderr)
    raise SystemExit(UserError.exit_code) from None

#: verb -> module and function: verbs for users
COMMANDS = {
    "run": "flatness.pipeline.run:run",
    "plan": "flatness.pipeline.plan:plan",
    "machine": "flatness.records.machine:machine",
    "measure": "flatness.studies.measure_checkpoint:measure_checkpoint",
    "compare": "flatness.pipeline.reference.compare:compare",
    "redraw": "flatness.pipeline.reference.redraw:redraw",
    "archive": "flatness.pipeline.archive:archive",
    "adopt": "flatness.pipeline.archive:adopt",
    "keep": "flatness.pipeline.reference.keep:keep",
    "describe-config": "flatness.pipeline.config_reference:describe_config",
    "pin-transformers": "flatness.studies.transformers.models:pin_models",
}
#: the same for verbs that the workflow's rules call, in the order of the data flow
STEPS = {
    "fetch": "flatness.datasets.fetch:fetch",
    "train-epfl": "flatness.studies.epfl.train:train_pool",
    "measure-epfl": "flatness.studies.epfl.measure:measure_pool",
    "correlate-epfl": "flatness.studies.epfl.correlate:correlate_pool",
    "take-epfl": "flatness.studies.epfl.take:take_models",
    "audit-epfl": "flatness.studies.epfl.audit:audit_pool",
    "cross-defects": "flatness.studies.epfl.factorial:cross_defects",
    "defect-effects": "flatness.studies.epfl.effects:defect_effects",
    "replicate-epfl": "flatness.studies.epfl.replicate:replicate_pool",
    "train-chen": "flatness.studies.chen.train:train_block",
    "train-chen-stacked": "flatness.studies.chen.train_stacked:train_stack",
    "measure-chen": "flatness.studies.chen.measure:measure_block",
    "correlate-chen": "flatness.studies.chen.correlate:correlate_family",
    "train-transformers": "flatness.studies.transformers.train:train_models",
    "measure-transformers": "flatness.studies.transformers.measure:measure_models",
    "correlate-transformers": "flatness.studies.transformers.correlate:correlate_models",
    "measure-cross-chen": "flatness.studies.cross.measure_chen:measure_family",
    "measure-cross-epfl": "flatness.studies.cross.measure_epfl:measure_pool",
    "compare-scales": "flatness.studies.chen.scale:compare_scales",
    "contrast-chen": "flatness.studies.chen.contrasts:contrast_family",
    "correlate-cross": "flatness.studies.cross.correlate:correlate_measures",
    **DRAWING,
    "report": "flatness.report.page:report",
    "explore": "flatness.report.explore:explore",
    "dictionary": "flatness.report.dictionary:dictionary",
    "stopped": "flatness.pipeline.stopped:stopped",
}
VERBS = COMMANDS | STEPS
#: separates the verbs of one process
THEN = "--then"


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb, or several separated by `--then`, since starting PyTorch takes seconds.

    Args:
        arguments: the command line without the program's name; None reads it from the process.

    Returns:
        Exit code of the first verb that fails: 0 all done, 1 a bug of ours, 2 a wrong option,
        else `UserError.exit_code`.
    """
    # Many jobs of one thread each; some libraries read these variables at import.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    waiting = sys.argv[1:] if arguments is None else arguments
    while THEN in waiting:
        end = waiting.index(THEN)
        if code := _run_verb(waiting[:end]):
            return code
        waiting = waiting[end + 1 :]
    return _run_verb(waiting)


def _run_verb(arguments: list[str]) -> int:
    """Runs one verb; returns its exit code."""
    application = typer.Typer(
        name="flatness", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
    )
    application.callback()(_describe)
    try:
        _add_verbs(application, arguments)
        application(arguments, standalone_mode=True)
    except ModuleNotFoundError as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return UserError.exit_code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "JSON"
        print(f"error: settings given as JSON: {place}: {first['msg']}", file=sys.stderr)
        return UserError.exit_code
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    return 0


def _add_verbs(application: typer.Typer, arguments: list[str]) -> None:
    """The verb that is called, or all verbs, unimported, if none is."""
    if arguments and arguments[0] in VERBS:
        application.command(arguments[0])(_function(arguments[0]))
        return
    for verb in VERBS:
        panel = "Commands" if verb in COMMANDS else "Steps of the workflow, called by its rules"
        application.command(verb, rich_help_panel=panel)(_namesake(verb))


def _function(verb: str) -> Callable[..., None]:
    module, name = VERBS[verb].split(":")
    return getattr(importlib.import_module(module), name)


def _namesake(verb: str) -> Callable[[], None]:
    """A function with the verb's docstring: enough to list verbs without importing them."""
    module, name = VERBS[verb].split(":")
    path = Path(__file__).parents[1].joinpath(*module.split(".")).with_suffix(".py")
    functions = (
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    )

    def namesake() -> None: ...

    namesake.__doc__ = next(ast.get_docstring(node) for node in functions if node.name == name)
    return namesake


def _print_version(asked: bool) -> None:
    if not asked:
        return
    from flatness.records.tables import (
        commit_here,  # imports too much for a list of verbs
    )

    commit, dirty = commit_here()
    changed = " and changed since" if dirty else ""
    try:
        number = version("flatness")
    except PackageNotFoundError:
        number = "not installed"
    print(f"flatness {number}, commit {commit}{changed}")
    raise typer.Exit


def _describe(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Show version and commit."
        ),
    ] = False,
) -> None:
    """Sharpness of the loss and compression of representations, measured."""


def entry() -> None:
    """The installed command `flatness`; characters that the locale lacks are printed as ?."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    sys.exit(main())


if __name__ == "__main__":
    entry()
