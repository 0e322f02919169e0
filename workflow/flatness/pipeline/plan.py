"""The verb `plan`: jobs, minutes and gigabytes of a config, before anything starts.

Jobs are counted by a dry run of the workflow, so finished ones do not count. Minutes and gigabytes
are those of the whole config from nothing, from the rates below; a network or data set that has
none of its own counts as the largest.
"""

import os
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flatness.datasets import DATASETS
from flatness.errors import UserError
from flatness.pipeline.config import Config
from flatness.pipeline.run import dry_run, load_config
from flatness.studies.chen.config import Family
from flatness.studies.epfl.cost import START_SECONDS, epfl_seconds
from flatness.terminal import console

#: Core-seconds of one training step at the papers' batch sizes on one thread of an AMD EPYC core.
STEP_SECONDS = {"mlp": 2.1e-3, "lenet5": 2.9e-3, "vgg11": 6.3e-3}
#: Core-seconds of measuring one checkpoint on 20 samples.
CHECKPOINT_SECONDS = {"mlp": 0.07, "lenet5": 0.16, "vgg11": 0.43}
#: Core-seconds of one small transformer for each image it is trained on, measuring included.
TRANSFORMER_IMAGE_SECONDS = 1.3e-3
#: Core-seconds of one restart of the strong ascent on one model of a family.
RESTART_SECONDS = {"mlp": 0.27, "lenet5": 0.24, "vgg11": 0.58}
#: Core-seconds of S and compression of one model of a pool on one sample.
SAMPLE_SECONDS = {"fcnn": 2e-4, "gat": 6e-4, "lenet5": 5e-3}
#: Core-seconds of correlating all measures of one family or pool, a permutation.
SET_RESAMPLE_SECONDS = 1.6e-3
#: Core-seconds of correlations, figures, report, notebooks and Snakemake itself.
REPORT_SECONDS = 160.0
#: Parameters of each network, 4 bytes each.
PARAMETERS = {"mlp": 898_510, "lenet5": 62_006, "vgg11": 97_018, "fcnn": 4929, "gat": 11_564}
POOL_LENET_PARAMETERS = 176_000
#: Gigabytes of every normalised data set that is large.
DATA_GIGABYTES = {"fashion_mnist": 0.09, "cifar10": 0.55}


def plan(
    configs: Annotated[list[Path], typer.Argument(help="configuration files")],
) -> None:
    """Says what each config will take; nothing is started."""
    cores = os.cpu_count() or 1
    table = Table(title=f"What a run takes, on the {cores} cores here")
    for name in ("config", "jobs still to run", "minutes from nothing", "GB on disk"):
        table.add_column(name, justify="left" if name == "config" else "right")
    remarks = []
    for path in configs:
        settings = load_config(path)
        minutes = core_seconds(settings) / cores / 60
        table.add_row(
            str(path), str(jobs_to_run(path)), f"{minutes:,.0f}", f"{gigabytes(settings):.1f}"
        )
        if settings.transformers.pretrained:
            count = len(settings.transformers.models)
            remarks.append(f"{path}: minutes and GB leave out its {count} pretrained models")
    console().print(table, *remarks, sep="\n")


def jobs_to_run(config: Path) -> int:
    """Counts by a dry run the jobs that are not done.

    Args:
        config: a configuration file.

    Returns:
        How many jobs Snakemake would start.

    Raises:
        UserError: the dry run failed; gives its last line.
    """
    done = dry_run(config)
    if done.returncode:
        raise UserError(f"{config}: the dry run failed: {(done.stdout + done.stderr).strip()}")
    total = re.search(r"^total +(\d+)$", done.stdout, re.MULTILINE)
    return int(total.group(1)) if total else 0


def core_seconds(config: Config) -> float:
    """Core-seconds of a whole config from nothing; pretrained transformers are not counted."""
    families = sum(family_seconds(family) for family in config.chen.families.values())
    trained = config.transformers.trained
    small = len(trained.models) * trained.training.images if trained else 0
    small *= TRANSFORMER_IMAGE_SECONDS
    cross = cross_seconds(config)
    return epfl_seconds(config.epfl) + families + small + cross + REPORT_SECONDS


def family_seconds(family: Family) -> float:
    """Core-seconds of training and measuring one family."""
    grid = len(family.settings)
    checkpoints = family.trend_seeds * family.checkpoints.count + family.seeds
    step = STEP_SECONDS.get(family.network, STEP_SECONDS["vgg11"])
    checkpoint = CHECKPOINT_SECONDS.get(family.network, CHECKPOINT_SECONDS["vgg11"])
    return grid * (
        2 * len(family.blocks) * START_SECONDS
        + family.seeds * family.iterations * step
        + checkpoints * checkpoint * family.samples / 20
    )


def cross_seconds(config: Config) -> float:
    """Core-seconds of measuring each paper's models by the other's measures, and correlating."""
    sets = len(config.cross.families) + len(config.epfl.pools)
    total = sets * config.statistics.resamples * SET_RESAMPLE_SECONDS
    for name in config.cross.families:
        family = config.chen.families[name]
        restart = RESTART_SECONDS.get(family.network, RESTART_SECONDS["vgg11"])
        a_model = config.cross.restarts * restart
        a_setting = len(family.blocks) * START_SECONDS + family.seeds * a_model
        total += len(family.settings) * a_setting
    for name, pool in config.epfl.pools.items():
        a_model = config.cross.samples * SAMPLE_SECONDS[name]
        total += len(pool.blocks) * START_SECONDS + pool.models * a_model
    return total


def gigabytes(config: Config) -> float:
    """Disk that data and checkpoints take."""
    used = {pool.dataset for pool in config.epfl.pools.values()}
    used |= {family.dataset for family in config.chen.families.values()}
    data = sum(DATA_GIGABYTES.get(name, 0.01) for name in DATASETS if name in used)
    pools = {name: chosen.count for name, chosen in config.epfl.replications.items()}
    weights = sum(
        pools.get(name, 1)
        * pool.models
        * (POOL_LENET_PARAMETERS if name == "lenet5" else PARAMETERS[name])
        for name, pool in config.epfl.pools.items()
    )
    for family in config.chen.families.values():
        kept = family.seeds + family.trend_seeds * family.checkpoints.count
        parameters = PARAMETERS.get(family.network, PARAMETERS["mlp"])
        weights += len(family.settings) * kept * parameters
    return data + 2 * 4 * weights / 1e9  # once in scratch, once in results
