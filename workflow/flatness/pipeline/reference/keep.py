"""The verb `keep`: copies a finished run's tables and figures to the committed folder."""

import json
import os
import platform
import shutil
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from flatness.errors import DataError
from flatness.pipeline.reference import CONFIG, KEPT, LAPTOP, REFERENCE, SCALE
from flatness.pipeline.reference.readme import show_ledger
from flatness.pipeline.run import load_config
from flatness.records import layout
from flatness.records.files import atomic_path
from flatness.records.frozen import content_hash
from flatness.records.machine import instruction_set, processor
from flatness.records.tables import commit_here
from flatness.report.costs import made_by, stage_costs
from flatness.terminal import console

README = Path("README.md")
LARGEST_FIGURE = 300_000  # bytes


def keep(
    config: Annotated[Path, typer.Argument(help="configuration of the run")],
    output: Annotated[
        Path | None, typer.Option(help="folder to renew; results/reference/<name>")
    ] = None,
) -> None:
    """Keeps tables, ledger and figures of a finished run, with provenance, as the reference.

    Other files of the folder stay, as measurements from which another machine goes on.
    """
    settings = load_config(config)
    results = layout.results_of(settings.name)
    output = output or REFERENCE / settings.name
    files = run_files(results)
    with_new = output.with_name(f".{output.name}.new")
    shutil.rmtree(with_new, ignore_errors=True)
    if output.exists():
        shutil.copytree(output, with_new)
    for outdated in kept_files(with_new):
        outdated.unlink()
    for file in files:
        target = with_new / file.relative_to(results)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    shutil.copyfile(config, with_new / CONFIG)
    with atomic_path(with_new / "environment.json") as temporary:
        record = environment(results, content_hash(settings))
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    with_new.replace(output)
    if README.exists() and output in {LAPTOP, SCALE}:
        show_ledger(README, LAPTOP / layout.LEDGER, SCALE / layout.LEDGER)
    size = sum(file.stat().st_size for file in files) / 1e6
    console().print(f"{len(files)} files, {size:.1f} MB, kept in {output}/")


def run_files(results: Path) -> list[Path]:
    """The files of a run that are kept.

    Args:
        results: folder of one config, as `results/laptop`.

    Returns:
        Tables, benchmarks, ledger and figures, sorted.

    Raises:
        DataError: the run has no ledger yet, or a figure is too large to be committed.
    """
    if not (results / layout.LEDGER).exists():
        raise DataError(f"{results}: no {layout.LEDGER}, so the run is not finished; end it first")
    files = kept_files(results)
    for file in files:
        if file.suffix == ".png" and file.stat().st_size > LARGEST_FIGURE:
            raise DataError(
                f"{file}: {file.stat().st_size / 1e3:.0f} kB, more than "
                f"{LARGEST_FIGURE / 1e3:.0f}; lower figures.dpi in the config and run again"
            )
    return files


def kept_files(results: Path) -> list[Path]:
    """The files of a folder that `keep` copies or replaces, sorted."""
    return sorted(file for pattern in KEPT for file in results.glob(pattern))


def environment(results: Path, config_hash: str) -> dict[str, Any]:
    """Provenance of a run: code, settings, packages, machine and the minutes of each stage.

    Args:
        results: folder of one config.
        config_hash: hash of its settings.

    Returns:
        Plain values, ready for JSON.
    """
    commit, dirty = commit_here()
    costs = stage_costs(results)
    return {
        "commit": commit,
        "dirty": dirty,
        "tables_made_by": made_by(layout.tables(results, layout.CORRELATIONS)),
        "config_hash": config_hash,
        "python": platform.python_version(),
        "packages": dict(sorted({(item.name.lower(), item.version) for item in distributions()})),
        "machine": {
            "system": platform.platform(),
            "processor": processor(),
            "instruction_set": instruction_set(),
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        },
        "stages": costs.round({"minutes": 2, "core_minutes": 2, "memory_mb": 0}).to_dict("records"),
        "minutes": round(costs["minutes"].sum(), 1),
        "core_minutes": round(costs["core_minutes"].sum(), 1),
    }
