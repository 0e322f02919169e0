"""Helpers of the rules: the typed config, paths, environment variables of jobs."""

import os
import shlex
import sys
import threading
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# Relative, so that a checkout can move: Snakemake runs a job again if the paths of its input change.
# This file's folder gives the checkout; `workflow.basedir` would be that of an importing Snakefile.
HERE = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).resolve()
if not HERE.is_dir():
    raise WorkflowError(
        "the library is missing beside the rules; clone the repository and give"
        " `snakefile:` of the module the path of its workflow/Snakefile"
    )
HOME = Path(os.path.relpath(HERE.parents[1]))
LIBRARY = HOME / "workflow"
ENVIRONMENT = str(HERE.parents[1] / "envs/environment.yaml")
sys.path.insert(0, str(LIBRARY.resolve()))

from flatness.__main__ import VERBS
from flatness.pipeline.allocation import ALLOCATION
from flatness.studies.chen import config as chen
from flatness.studies.chen.stacked_config import stacked_training
from flatness.pipeline.code_version import code_version
from flatness.pipeline.config import settle_device, validate
from flatness.studies.cross import config as cross
from flatness.datasets import DATASETS
from flatness.datasets import module_of as dataset_module
from flatness.studies.epfl import config as epfl
from flatness.studies.epfl import defects
from flatness.errors import UserError
from flatness.records import layout
from flatness.records.frozen import canonical_json, content_hash
from flatness.report.figure_list import BOTH, PAPERS, drawn_figures
from flatness.pipeline.snakemake_messages import hide_commands
from flatness.pipeline.snakemake_records import came_from_elsewhere
from flatness.studies.transformers import config as transformers

try:
    CONFIG = validate(config)
except UserError as error:
    raise WorkflowError(str(error)) from None

# Jobs run this checkout's code, whatever else is installed: its version decides what runs again.
EXPORTS = {"PYTHONPATH": str(LIBRARY.resolve())} | ALLOCATION
# Not a parameter of any rule: the source of verified data does not change the data.
if CONFIG.data.mirror:
    EXPORTS["FLATNESS_DATA_MIRROR"] = CONFIG.data.mirror
if CONFIG.transformers.pretrained:
    EXPORTS |= CONFIG.transformers.pretrained.exports
# A job that a signal ended cannot report it. Ctrl-C, 130, needs no report. The shell sets traps for
# these signals, which the job does not inherit: then its message does not show the job's command.
EXPLAIN = (
    "trap : SEGV BUS ILL ABRT FPE XCPU KILL; "
    "trap 'status=$?; ((status <= 128 || status == 130)) ||"
    ' printf %s "$BASH_COMMAND" | python -m flatness stopped $status\' EXIT; '
)
hide_commands(logger)
shell.prefix(
    "set -euo pipefail; "
    + EXPLAIN
    + "".join(
        f"export {name}={shlex.quote(value)}; " for name, value in EXPORTS.items()
    )
)

RESULTS = str(layout.results_of(CONFIG.name))
LOGS = f"{RESULTS}/{layout.LOGS}"
BENCHMARKS = f"{RESULTS}/{layout.BENCHMARKS}"
if came_from_elsewhere(CONFIG.name):
    raise WorkflowError(
        f"{RESULTS}: these results came without Snakemake's records, so that nothing would tell "
        "what is out of date; take them over by `python -m flatness adopt` with their config"
    )
DEVICE = settle_device(CONFIG)
# GPUs that a job requests from a cluster.
GPUS = int(DEVICE == "cuda")


def alternatives(names):
    """A wildcard constraint that admits only these names."""
    return "|".join(sorted(set(names))) or "^$"


wildcard_constraints:
    dataset=alternatives(DATASETS),
    pool=alternatives(CONFIG.epfl.pools),
    trained=alternatives(defects.training_protocols()),
    measured=alternatives(defects.measuring_protocols()),
    family=alternatives(CONFIG.chen.families),
    setting=alternatives(
        setting.name
        for family in CONFIG.chen.families.values()
        for setting in family.settings
    ),
    block=alternatives(
        block
        for group in (CONFIG.epfl, *CONFIG.chen.families.values(), CONFIG.transformers)
        for block in group.blocks
    ),


def scratch(verb, experiment, code, block):
    """Folder of a job's resumable state, named by everything that determines its result."""
    return f"scratch/{verb}/{content_hash(experiment)}-{code}/{block}"


def result(pattern):
    """A file of this run, from its path in the layout of all results."""
    return f"{RESULTS}/{pattern}"


def picture(figure):
    """The file of a figure for pages (PNG)."""
    return result(layout.PICTURE).format(figure=figure)


def drawing(figure):
    """The file of a figure for papers (SVG)."""
    return result(layout.DRAWING).format(figure=figure)


def data_file(name):
    """The normalised data set that `fetch` writes."""
    return f"data/{name}.safetensors"


def repeated(option, name):
    """A parameter that repeats an option for every file of one named input."""
    return lambda wildcards, input: " ".join(
        f"{option} {shlex.quote(path)}" for path in input[name]
    )


def version_of(verb, *found):
    """Version of the code of a verb, including code that it finds by name."""
    return code_version(VERBS[verb], *found)


def version_of_all(verbs):
    """Version of the code of several verbs."""
    return code_version(*sorted({VERBS[verb] for verb in verbs}))


def step(command):
    """A shell command for a verb and its options; messages go to the terminal and to the log."""
    return f"python -m flatness {command} 2> >(tee {{log:q}} >&2)"


def in_turn(verb, **options):
    """One verb's arguments, once for each item of its lists, so that one process runs all of them."""
    times = max(len(value) for value in options.values() if not isinstance(value, str))
    columns = [
        [value] * times if isinstance(value, str) else value
        for value in options.values()
    ]
    return " --then ".join(
        shlex.join([verb, *(f"--{name}={value}" for name, value in zip(options, row))])
        for row in zip(*columns, strict=True)
    )


def cancel_timers():
    """Cancels the timers of Snakemake's scheduler, which would delay the end of the process."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()
