"""Helpers of the rules: the typed config and its slices, the version of the code, paths."""

import ast
import hashlib
import os
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

# Relative, since Snakemake runs a job again whose input files have other paths: a checkout can move.
HOME = Path(os.path.relpath(workflow.basedir))
LIBRARY = HOME / "workflow"
ENVIRONMENT = str(Path(workflow.basedir) / "envs/environment.yaml")
sys.path.insert(0, str(LIBRARY.resolve()))

from flatness.chen import config as chen
from flatness.chen.stacked_config import stacked_training, stacks
from flatness.config import settle_device, validate
from flatness.cross import config as cross
from flatness.epfl import config as epfl
from flatness.epfl import study
from flatness.errors import UserError
from flatness.frozen import DATASETS, canonical_json, content_hash
from flatness.transformers import config as transformers

try:
    CONFIG = validate(config)
except UserError as error:
    raise WorkflowError(str(error)) from None

# Jobs run this checkout's code, whatever else is installed: its version is what is hashed below.
EXPORTS = {"PYTHONPATH": str(LIBRARY.resolve())}
# glibc gives large blocks back to the system when they are freed; taking them again in every step
# costs VGG-11's training 15 % of its time in page faults.
EXPORTS |= {
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
}
# Not a parameter of any rule: where verified data come from does not change them.
if CONFIG.data.mirror:
    EXPORTS["FLATNESS_DATA_MIRROR"] = CONFIG.data.mirror
if CONFIG.transformers.pretrained:
    EXPORTS |= CONFIG.transformers.pretrained.exports
shell.prefix(
    "set -euo pipefail; "
    + "".join(
        f"export {name}={shlex.quote(value)}; " for name, value in EXPORTS.items()
    )
)

RESULTS = f"results/{CONFIG.name}"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
DEVICE = settle_device(CONFIG)
# GPUs that a job asks a cluster for.
GPUS = int(DEVICE == "cuda")


def alternatives(names):
    """A wildcard constraint that admits these names only."""
    return "|".join(sorted(set(names))) or "^$"


wildcard_constraints:
    dataset=alternatives(DATASETS),
    pool=alternatives(CONFIG.epfl.pools),
    trained=alternatives(epfl.training_protocols()),
    measured=alternatives(epfl.measuring_protocols()),
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


@cache
def syntax_tree(path):
    """What a module computes: its syntax tree without docstrings, and comments have none."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            del node.body[0]
    return tree


def imported_modules(module):
    """Syntax trees of a module and of all it imports inside the package, by module name."""
    found = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = LIBRARY.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in found or not name.startswith("flatness.") or not path.exists():
            continue
        found[name] = syntax_tree(path)
        for node in ast.walk(found[name]):
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
    """Hash of what a module and its imports compute: comments, docstrings and file times do not count."""
    trees = {name: ast.dump(tree) for name, tree in imported_modules(module).items()}
    return hashlib.sha256(repr(sorted(trees.items())).encode()).hexdigest()[:12]


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
    settings = epfl.training(CONFIG.epfl, wildcards.pool, wildcards.trained, DEVICE)
    return study.of_block(settings, CONFIG.epfl.pools[wildcards.pool], wildcards.block)


def epfl_measurement(wildcards):
    settings = epfl.measurement(
        CONFIG.epfl, wildcards.pool, wildcards.trained, wildcards.measured, DEVICE
    )
    return study.of_block(settings, CONFIG.epfl.pools[wildcards.pool], wildcards.block)


def epfl_blocks(pattern, blocks=lambda pool: CONFIG.epfl.pools[pool].blocks):
    """All blocks of a pool, as an input function of the pattern's other wildcards."""
    return lambda wildcards: expand(pattern, block=blocks(wildcards.pool), **wildcards)


def epfl_tables(pattern, pools=CONFIG.epfl.pools):
    """The tables of every pool under the config's protocol, in the papers' order."""
    protocol = CONFIG.epfl.protocol
    return expand(
        pattern,
        pool=[pool for pool in CONFIG.epfl.pools if pool in pools],
        trained=protocol,
        measured=protocol,
    )


def epfl_audited(pattern):
    """The tables that a pool's audit reads, one a protocol and block."""
    return lambda wildcards: sorted(
        {
            expand(
                pattern,
                pool=wildcards.pool,
                trained=run.trained,
                measured=run.measured,
                block=block,
            )[0]
            for run in CONFIG.epfl.audit_plan(wildcards.pool).runs
            for block in run.blocks
        }
    )


# Blocks that hold the first models of a block of the main pool only -> that block.
EPFL_PARTS = {
    f"{pool}/written/{part}": f"{pool}/written/{block}"
    for pool in CONFIG.epfl.pools
    for part, block in CONFIG.epfl.parts(pool).items()
}


# The same for the rules of Chen, Recanatesi and Shea-Brown.


def chen_training(wildcards):
    return chen.training(
        CONFIG.chen, wildcards.family, wildcards.setting, wildcards.block, DEVICE
    )


# Files of one block's training, without their endings, whichever rule makes them.
CHEN_TRAINED = f"{RESULTS}/checkpoints/chen/{{family}}/{{setting}}/{{block}}"


def chen_data(wildcards):
    return data_file(CONFIG.chen.families[wildcards.family].dataset)


def chen_trajectory(paths):
    """Weights before the end of training, deleted once measured unless the config keeps them."""
    return paths if CONFIG.chen.keep_trajectories else temp(paths)


# The stacks that train on a GPU, by family: none where training goes in a loop.
CHEN_STACKS = [
    (family, stack)
    for family, chosen in CONFIG.chen.families.items()
    for stack in stacks(chosen)
    if DEVICE == "cuda"
]


def chen_stack(family, stack):
    return stacked_training(CONFIG.chen, family, stack, DEVICE)


def chen_stack_files(family, stack, ending):
    """One kind of file of all settings and blocks of a stack."""
    chosen = chen_stack(family, stack)
    return expand(
        f"{CHEN_TRAINED}.{ending}",
        family=family,
        setting=[setting.name for setting in chosen.settings],
        block=chosen.blocks,
    )


def chen_measurement(wildcards):
    return chen.measurement(
        CONFIG.chen, wildcards.family, wildcards.setting, wildcards.block, DEVICE
    )


def chen_blocks(wildcards):
    family = CONFIG.chen.families[wildcards.family]
    return expand(
        rules.measure_chen.output[0],
        family=wildcards.family,
        setting=[setting.name for setting in family.settings],
        block=family.blocks,
    )


# Figure -> verb and its options, families in the paper's order. Families the config does not have,
# or has no trends of, are left out; a figure without a family is not a target.
CHEN_FIGURES = {
    "chen_fig1": ("draw-chen-trends --by learning_rate", ["vgg11"]),
    "chen_fig2": ("draw-chen-trends --by batch_size", ["vgg11"]),
    "chen_mlp_lr": ("draw-chen-trends --by learning_rate", ["mlp_tanh"]),
    "chen_mlp_batch": ("draw-chen-trends --by batch_size", ["mlp_tanh"]),
    "chen_fig3": ("draw-chen-fig3", ["mlp_relu", "lenet5", "vgg11"]),
    "chen_scatter_mlp_relu": ("draw-chen-scatter", ["mlp_relu"]),
    "chen_scatter_lenet5": ("draw-chen-scatter", ["lenet5"]),
    "chen_scatter_vgg11": ("draw-chen-scatter", ["vgg11"]),
    "chen_figG5": ("draw-chen-figg5", ["mlp_tanh"]),
    "chen_test_samples": ("draw-chen-test-samples", ["vgg11"]),
    "chen_ten_classes": ("draw-chen-trends --by learning_rate", ["vgg11_ten_classes"]),
    "chen_optimisers": ("draw-chen-trends --by setting", ["optimisers"]),
}
CHEN_FIGURES = {
    figure: (verb, [family for family in families if family in CONFIG.chen.families])
    for figure, (verb, families) in CHEN_FIGURES.items()
    if any(family in CONFIG.chen.families for family in families)
}


def chen_tables(kind):
    return lambda wildcards: expand(
        getattr(rules.correlate_chen.output, kind),
        family=CHEN_FIGURES[wildcards.figure][1],
    )


def chen_draw_module(verb):
    kind = {
        "draw-chen-fig3": "bounds",
        "draw-chen-figg5": "bounds",
        "draw-chen-scatter": "scatter",
    }
    return f"flatness.chen.draw.{kind.get(verb.split()[0], 'trends')}"


# The same for the transformers.


def vit_training(wildcards):
    return transformers.training(CONFIG.transformers, wildcards.block, DEVICE)


def vit_measurement(wildcards):
    return transformers.measurement(CONFIG.transformers, wildcards.block, DEVICE)


def vit_options(wildcards, input):
    """Models trained here come with data and weights, pretrained ones through the environment."""
    return " ".join(f"--{name} {shlex.quote(path)}" for name, path in input.items())


# The same for the measures of each paper on the other's models.


def cross_family(wildcards):
    return cross.family_measurement(
        CONFIG.cross,
        CONFIG.chen,
        wildcards.family,
        wildcards.setting,
        wildcards.block,
        DEVICE,
    )


def cross_pool(wildcards):
    return cross.pool_measurement(
        CONFIG.cross, CONFIG.epfl, wildcards.pool, wildcards.trained, DEVICE
    )


def cross_tables(wildcards):
    """One table a block of every family and pool that is compared."""
    families = [
        path
        for name in CONFIG.cross.families
        for family in [CONFIG.chen.families[name]]
        for path in expand(
            rules.measure_cross_chen.output[0],
            family=name,
            setting=[setting.name for setting in family.settings],
            block=family.blocks,
        )
    ]
    pools = [
        path
        for name, pool in CONFIG.epfl.pools.items()
        for path in expand(
            rules.measure_cross_epfl.output[0],
            pool=name,
            trained=CONFIG.epfl.protocol,
            block=pool.blocks,
        )
    ]
    return families + pools
