"""Cost and provenance of a run, from benchmarks and from the tables' last columns."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from flatness.records import layout
from flatness.records.tables import read_text


def read_benchmark(path: Path) -> pd.DataFrame:
    """Reads Snakemake's benchmark of one job.

    Args:
        path: the benchmark file.

    Returns:
        One row per repetition: `s` and `cpu_time` in seconds, `max_rss` in MB, and others.
    """
    return pd.read_csv(path, sep="\t", na_values="-")


def job_minutes(paths: Iterable[Path]) -> float:
    """Sum of the wall minutes of jobs, each on one thread.

    Args:
        paths: Snakemake's benchmark files.

    Returns:
        Minutes; 0 without files.
    """
    return sum(read_benchmark(path)["s"].sum() for path in paths) / 60


def stage_costs(results: Path) -> pd.DataFrame:
    """Jobs, minutes and largest memory of each stage and study.

    Args:
        results: folder of one config.

    Returns:
        Columns stage, study, jobs, minutes (wall time; jobs may have shared cores),
        core_minutes (0 if not recorded), memory_mb; empty without benchmarks.
    """
    rows = [
        read_benchmark(path)[["s", "cpu_time", "max_rss"]].assign(
            **dict(zip(("stage", "study"), layout.job_of(results, path), strict=False))
        )
        for path in layout.files(results, layout.BENCHMARK)
    ]
    if not rows:
        return pd.DataFrame(
            columns=["stage", "study", "jobs", "minutes", "core_minutes", "memory_mb"]
        )
    found = pd.concat(rows).groupby(["study", "stage"], sort=False)
    costs = found.agg(
        jobs=("s", "size"),
        minutes=("s", "sum"),
        core_minutes=("cpu_time", "sum"),
        memory_mb=("max_rss", "max"),
    )
    return costs.assign(
        minutes=costs["minutes"] / 60, core_minutes=costs["core_minutes"] / 60
    ).reset_index()


def made_by(paths: Iterable[Path]) -> list[str]:
    """Which code and versions made some tables.

    Args:
        paths: tables; those without provenance columns are skipped.

    Returns:
        One line per combination, such as
        "commit 1a2b (files changed), PyTorch 2.11.0, Python 3.11.9, cpu, AVX2".
    """
    names = ["commit", "dirty", "torch_version", "python_version", "instruction_set", "device"]
    lines = {}
    for path in paths:
        table = read_text(path)
        if set(names) <= set(table.columns):
            for row in table[names].drop_duplicates().itertuples():
                changed = " (files changed)" if row.dirty == "True" else ""
                versions = f"PyTorch {row.torch_version}, Python {row.python_version}"
                hardware = f"{row.device}, {row.instruction_set}"
                lines[f"commit {row.commit}{changed}, {versions}, {hardware}"] = None
    return list(lines)
