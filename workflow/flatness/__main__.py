"""The command `python -m flatness <verb>`: finds the verb's function and runs it.

It holds no logic: each verb's command lives in the module of its stage, and only that module is
imported.
"""

import importlib
import os
import sys

import typer
from pydantic import ValidationError

from flatness.errors import UserError

#: verb -> module and function, in the order data flows
VERBS = {
    "run": "flatness.run:run",
    "plan": "flatness.plan:plan",
    "archive": "flatness.archive:archive",
    "adopt": "flatness.archive:adopt",
    "fetch": "flatness.fetch:fetch",
    "train-epfl": "flatness.epfl.train:train_pool",
    "measure-epfl": "flatness.epfl.measure:measure_pool",
    "correlate-epfl": "flatness.epfl.correlate:correlate_pool",
    "draw-epfl-fig1": "flatness.epfl.draw:draw_fig1",
    "take-epfl": "flatness.epfl.take:take_models",
    "audit-epfl": "flatness.epfl.audit:audit_pool",
    "draw-epfl-audit": "flatness.epfl.draw_audit:draw_audit",
    "replicate-epfl": "flatness.epfl.replicate:replicate_pool",
    "draw-epfl-replications": "flatness.epfl.draw_replications:draw_replications",
    "train-chen": "flatness.chen.train:train_block",
    "train-chen-stacked": "flatness.chen.train_stacked:train_stack",
    "measure-chen": "flatness.chen.measure:measure_block",
    "correlate-chen": "flatness.chen.correlate:correlate_family",
    "draw-chen-trends": "flatness.chen.draw.trends:draw_trends",
    "draw-chen-test-samples": "flatness.chen.draw.trends:draw_test_samples",
    "draw-chen-fig3": "flatness.chen.draw.bounds:draw_fig3",
    "draw-chen-figg5": "flatness.chen.draw.bounds:draw_fig_g5",
    "draw-chen-scatter": "flatness.chen.draw.scatter:draw_scatter",
    "train-transformers": "flatness.transformers.train:train_models",
    "measure-transformers": "flatness.transformers.measure:measure_models",
    "correlate-transformers": "flatness.transformers.correlate:correlate_models",
    "draw-chen-fig4": "flatness.transformers.draw:draw_fig4",
    "pin-transformers": "flatness.transformers.models:pin_models",
    "measure-cross-chen": "flatness.cross.measure_chen:measure_family",
    "measure-cross-epfl": "flatness.cross.measure_epfl:measure_pool",
    "correlate-cross": "flatness.cross.correlate:correlate_measures",
    "draw-cross-measures": "flatness.cross.draw:draw_measures",
    "contrast-chen": "flatness.chen.contrasts:contrast_family",
    "report": "flatness.report.page:report",
    "dictionary": "flatness.dictionary:dictionary",
    "keep": "flatness.reference.keep:keep",
    "redraw": "flatness.reference.redraw:redraw",
    "compare": "flatness.reference.compare:compare",
    "measure": "flatness.measure_checkpoint:measure_checkpoint",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb.

    Args:
        arguments: the command line without the program's name; None reads it from the process.

    Returns:
        Exit code: 0 done, 1 a fault of ours, else `UserError.exit_code`; 2 for a wrong option.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    # One thread a job, many jobs: also for libraries that read these at import.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    wanted = [arguments[0]] if arguments and arguments[0] in VERBS else list(VERBS)
    application = typer.Typer(
        name="flatness", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
    )
    application.callback()(_describe)
    for verb in wanted:
        module, function = VERBS[verb].split(":")
        application.command(verb)(getattr(importlib.import_module(module), function))
    try:
        application(arguments, standalone_mode=True)
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


def _describe() -> None:
    """Sharpness of the loss and compression of representations, measured."""


def entry() -> None:
    """The installed command `flatness`."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
