"""The verb `plan`: jobs, minutes and gigabytes of a config, before anything starts.

A dry run of the workflow counts the jobs, so finished jobs do not count. Minutes and gigabytes are
those of the whole config, starting from nothing. Minutes are estimated from the times of the jobs
of the committed reference run: seconds per job, and seconds per unit of work for each network, pool
and protocol. A network that was not run there counts like the slowest.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.table import Table

from flatness.datasets import DATASETS
from flatness.errors import UserError
from flatness.pipeline.config import Config
from flatness.pipeline.reference import BENCHMARK, CONFIG, LAPTOP
from flatness.pipeline.run import dry_run, load_config
from flatness.records import layout
from flatness.records.frozen import seeds_of
from flatness.report.costs import read_benchmark
from flatness.studies.chen.config import Family
from flatness.studies.epfl.config import PoolSettings
from flatness.studies.epfl.defects import crossed
from flatness.studies.epfl.study import EpflStudy, Factorial
from flatness.terminal import console

KEPT = Path(__file__).parents[3] / LAPTOP
#: Core-seconds of parts without benchmarks: correlations, figures, report, notebooks, Snakemake.
REPORT_SECONDS = 160.0
#: Training images of the data sets for the pool of LeNet-5.
TRAIN_IMAGES = {"fashion_mnist": 60_000, "digits": 1437}
#: Protocols that measure on the whole training set.
WHOLE_SET = {"whole_set", "released"}
#: Parameters of each network, 4 bytes each.
PARAMETERS = {"mlp": 898_510, "lenet5": 62_006, "vgg11": 97_018, "fcnn": 4929, "gat": 11_564}
POOL_LENET_PARAMETERS = 176_000
#: Gigabytes of the large normalised data sets.
DATA_GIGABYTES = {"fashion_mnist": 0.09, "cifar10": 0.55}


def plan(
    configs: Annotated[list[Path], typer.Argument(help="configuration files")],
) -> None:
    """Estimates the cost of each config; nothing is started."""
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
    """Counts unfinished jobs by a dry run.

    Args:
        config: a configuration file.

    Returns:
        How many jobs Snakemake would start.

    Raises:
        UserError: the dry run failed; quotes its last line.
    """
    done = dry_run(config)
    if done.returncode:
        raise UserError(f"{config}: the dry run failed: {(done.stdout + done.stderr).strip()}")
    total = re.search(r"^total +(\d+)$", done.stdout, re.MULTILINE)
    return int(total.group(1)) if total else 0


class Work(NamedTuple):
    """Jobs of one kind.

    Attributes:
        kind: stage, study, and the network, or the pool and the protocol.
        jobs: how many.
        units: amount of work, to which seconds are proportional.
    """

    kind: str
    jobs: int
    units: float


def core_seconds(config: Config, kept: Path = KEPT) -> float:
    """Core-seconds of a whole config from nothing, without pretrained transformers.

    Args:
        config: the configuration.
        kept: folder of a kept run, with its config and benchmarks.

    Returns:
        Seconds, from those of the kept run's jobs.
    """
    start = json.loads((kept.parent / BENCHMARK).read_text(encoding="utf-8"))["chen"]["startup_s"]
    rates = unit_seconds(kept, start)
    total = REPORT_SECONDS
    for kind, jobs, units in work(config):
        family = kind.rpartition("/")[0]
        slowest = max(rate for other, rate in rates.items() if other.startswith(family))
        total += jobs * start + units * rates.get(kind, slowest)
    return total


def unit_seconds(kept: Path, start: float) -> dict[str, float]:
    """Seconds per unit of each kind of work, from the benchmarks of a kept run.

    Args:
        kept: its folder.
        start: seconds that every job spends on starting Python.

    Returns:
        By kind of work.
    """
    config = load_config(kept / CONFIG)
    units = Counter()
    for kind, _, more in work(config):
        units[kind] += more
    seconds = Counter()
    for path in layout.files(kept, layout.BENCHMARK):
        parts = layout.job_of(kept, path)
        took = read_benchmark(path)["cpu_time"].sum()
        seconds[kind_of(parts, config)] += max(took - start, 0)
    return {kind: seconds[kind] / units[kind] for kind in seconds if kind in units}


def kind_of(parts: tuple[str, ...], config: Config) -> str:
    """The kind of work behind a benchmark, from its folders."""
    match parts:
        case (stage, "chen", family, *_) | (stage, "cross", "chen", family, *_):
            study = "cross/chen" if "cross" in parts else "chen"
            return f"{stage}/{study}/{config.chen.families[family].network}"
        case ("train", "epfl", pool, protocol) | ("measure", "epfl", pool, _, protocol):
            return f"{parts[0]}/epfl/{pool}/{protocol}"
        case (stage, "cross", "epfl", pool, *_):
            return f"{stage}/cross/epfl/{pool}"
    return "/".join(parts)


def work(config: Config) -> Iterator[Work]:
    """All jobs of a config, starting from nothing."""
    cross, families = config.cross, config.chen.families
    for family in families.values():
        yield from family_work(family)
    for name in cross.families:
        family = families[name]
        grid = len(family.settings)
        kind = f"measure/cross/chen/{family.network}"
        yield Work(kind, family.jobs, grid * family.seeds * cross.restarts)
    for name, pool in config.epfl.pools.items():
        yield from pool_work(config.epfl, name, pool)
        kind = f"measure/cross/epfl/{name}"
        yield Work(kind, len(pool.blocks), pool.models * cross.samples)
    sets = len(cross.families) + len(config.epfl.pools)
    yield Work("correlate/cross", 1, sets * config.statistics.resamples)
    small, blocks = config.transformers.trained, len(config.transformers.blocks)
    if small:
        images = len(small.models) * small.training.images
        yield Work("train/transformers", blocks, images)
        yield Work("measure/transformers", blocks, images)


def family_work(family: Family) -> Iterator[Work]:
    """Training, by steps, and measuring, by samples of checkpoints, of one family."""
    steps = sum(
        seeds * family.length(setting, trend=trend)
        for setting in family.settings
        for trend, seeds in seeds_by_kind(family)
    )
    measured = measured_checkpoints(family) * family.samples
    yield Work(f"train/chen/{family.network}", family.jobs, steps)
    yield Work(f"measure/chen/{family.network}", family.jobs, measured)


def seeds_by_kind(family: Family) -> tuple[tuple[bool, int], ...]:
    """How many seeds are measured along training (True) and how many are not (False)."""
    return (True, family.trend_seeds), (False, family.seeds - family.trend_seeds)


def measured_checkpoints(family: Family) -> int:
    """How many checkpoints of a family are measured if every model reaches all losses."""
    crossings = len(family.checkpoints.losses)
    found = crossings + 1 if crossings else 0  # plus the first interpolation
    return sum(
        seeds * (len(family.kept_steps(setting, trend=trend)) // family.measure_every + found)
        for setting in family.settings
        for trend, seeds in seeds_by_kind(family)
    )


def pool_work(epfl: EpflStudy, name: str, pool: PoolSettings) -> Iterator[Work]:
    """Training and measuring of one pool with its replications and its audit."""
    runs = {(epfl.protocol, epfl.protocol): pool.blocks}
    for protocol in epfl.replicated_protocols(name):
        runs[protocol, protocol] = epfl.replication_blocks(name, protocol)
    for run in epfl.audit_plan(name).runs if name in epfl.audit else ():
        runs.setdefault((run.trained, run.measured), list(run.blocks))
    images = pool.train_size or TRAIN_IMAGES.get(pool.dataset, 1)
    trained = set()
    for (training, measuring), chosen in runs.items():
        models = sum(len(seeds_of(block)) for block in chosen)
        if training not in trained:
            yield Work(f"train/epfl/{name}/{training}", len(chosen), models * images)
            trained.add(training)
        steps = images if measuring in WHOLE_SET else pool.ascent.restarts
        kind = f"measure/epfl/{name}/{measuring}"
        yield Work(kind, len(chosen), models * steps * pool.ascent.steps)
    if name in epfl.factorial:
        yield from factorial_work(epfl.factorial[name], name, pool, images)


def factorial_work(chosen: Factorial, name: str, pool: PoolSettings, images: int) -> Iterator[Work]:
    """Training and measuring under every combination of defects, each as written or on all data."""
    jobs = len(chosen.blocks)
    for measurings in crossed(name).values():
        yield Work(f"train/epfl/{name}/written", jobs, chosen.models * images)
        jobs = 0  # one job handles all combinations
        for measuring in measurings:
            whole = any(part in WHOLE_SET for part in measuring.split("+"))
            kind = f"measure/epfl/{name}/{'whole_set' if whole else 'written'}"
            steps = images if whole else pool.ascent.restarts
            yield Work(kind, 0, chosen.models * steps * pool.ascent.steps)


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
        parameters = PARAMETERS.get(family.network, PARAMETERS["mlp"])
        weights += measured_checkpoints(family) * family.measure_every * parameters
    return data + 2 * 4 * weights / 1e9  # once in scratch, once in results
