"""The verb `redraw`: every figure and the report from kept tables, without data or training."""

import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from flatness.errors import DataError, UserError
from flatness.reference import CONFIG, REFERENCE
from flatness.summary import print_summary

#: Rules that make what is kept. Without them Snakemake takes the kept tables for sources.
UPSTREAM = ("fetch", "train", "measure", "correlate", "contrast")
NAME = "redrawn"


def redraw(
    reference: Annotated[Path, typer.Argument(help="folder that `keep` wrote")] = REFERENCE,
) -> None:
    """Draws every figure and the report anew from kept tables, into results/redrawn."""
    config = reference / CONFIG
    if not config.exists():
        raise DataError(f"{config}: no such file; `python -m flatness keep` writes such a folder")
    results = Path("results") / NAME
    for folder in ("correlations", "benchmarks"):
        shutil.copytree(reference / folder, results / folder, dirs_exist_ok=True)
    command = ["snakemake", "--configfile", str(config), "--config", f"name={NAME}"]
    done = subprocess.run(
        [*command, "--allowed-rules", *downstream_rules(command), "--", "all"], check=False
    )
    print_summary(results)
    if done.returncode:
        raise UserError(f"{results}: not all figures could be drawn; the messages above say why")


def downstream_rules(command: list[str]) -> list[str]:
    """Names of the rules that draw and report.

    Args:
        command: Snakemake with its config.

    Returns:
        All rules but those that make tables.

    Raises:
        UserError: Snakemake refuses the config.
    """
    done = subprocess.run([*command, "--list-rules"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"snakemake --list-rules failed: {(done.stdout + done.stderr).strip()}")
    names = done.stdout.split()
    return [name for name in names if name.split("_")[0] not in UPSTREAM]
