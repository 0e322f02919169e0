"""Helpers of the rules: the typed config and its slices, the version of the code, paths."""

import ast
import hashlib
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

LIBRARY = Path(workflow.basedir) / "workflow"
ENVIRONMENT = str(Path(workflow.basedir) / "envs/environment.yaml")
sys.path.insert(0, str(LIBRARY))

from flatness.config import validate
from flatness.epfl import config as epfl
from flatness.errors import UserError
from flatness.frozen import DATASETS, canonical_json, content_hash

try:
    CONFIG = validate(config)
except UserError as error:
    raise WorkflowError(str(error)) from None

# Jobs run this checkout's code, whatever else is installed: its version is what is hashed below.
EXPORTS = {"PYTHONPATH": str(LIBRARY)}
# Not a parameter of any rule: where verified data come from does not change them.
if CONFIG.data.mirror:
    EXPORTS["FLATNESS_DATA_MIRROR"] = CONFIG.data.mirror
shell.prefix(
    "set -euo pipefail; "
    + "".join(
        f"export {name}={shlex.quote(value)}; " for name, value in EXPORTS.items()
    )
)

RESULTS = f"results/{CONFIG.name}"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
DEVICE = CONFIG.device_kind


def alternatives(names):
    """A wildcard constraint that admits these names only."""
    return "|".join(sorted(set(names))) or "^$"


wildcard_constraints:
    dataset=alternatives(DATASETS),
    pool=alternatives(CONFIG.epfl.pools),
    trained=alternatives(epfl.training_protocols()),
    measured=alternatives(epfl.measuring_protocols()),
    block=alternatives(
        block for pool in CONFIG.epfl.pools.values() for block in pool.blocks
    ),


@cache
def imported_modules(module):
    """Files of a module and of all it imports inside the package, by module name."""
    found = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = LIBRARY.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in found or not name.startswith("flatness.") or not path.exists():
            continue
        found[name] = ast.dump(ast.parse(path.read_text()))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [
                    node.module,
                    *(f"{node.module}.{a.name}" for a in node.names),
                ]
    return found


@cache
def code_version(module):
    """Hash of the syntax trees a module depends on: comments and file times do not count."""
    trees = sorted(imported_modules(module).items())
    return hashlib.sha256(repr(trees).encode()).hexdigest()[:12]


def scratch(verb, experiment, module, block):
    """Folder of a job's resumable state, named by all that determines its result."""
    return f"scratch/{verb}/{content_hash(experiment)}-{code_version(module)}/{block}"


def data_file(name):
    """The normalised data set that `fetch` writes."""
    return f"data/{name}.safetensors"


def repeated(option, name):
    """A parameter that repeats an option for every file of one named input."""
    return lambda wildcards, input: " ".join(
        f"{option} {shlex.quote(path)}" for path in input[name]
    )


# Slices of the config, and files, by the wildcards of the EPFL rules.


def epfl_training(wildcards):
    return epfl.training(CONFIG.epfl, wildcards.pool, wildcards.trained, DEVICE)


def epfl_measurement(wildcards):
    return epfl.measurement(
        CONFIG.epfl, wildcards.pool, wildcards.trained, wildcards.measured, DEVICE
    )


def epfl_blocks(pattern):
    """All blocks of a pool, as an input function of the pattern's other wildcards."""
    return lambda wildcards: expand(
        pattern, block=CONFIG.epfl.pools[wildcards.pool].blocks, **wildcards
    )


def epfl_tables(pattern):
    """The tables of every pool under the config's protocol, in the papers' order."""
    protocol = CONFIG.epfl.protocol
    return expand(pattern, pool=CONFIG.epfl.pools, trained=protocol, measured=protocol)
