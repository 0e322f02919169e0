"""The verb `redraw`: every figure and the report from kept tables, without data or training."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from flatness.errors import DataError, UserError
from flatness.extras import program
from flatness.pipeline.config import OWNER_VARIABLE
from flatness.pipeline.reference import CONFIG, REFERENCE
from flatness.records import layout
from flatness.report.summary import print_summary

#: Files of the rules that draw and report. Without all other rules, Snakemake treats the kept
#: tables as sources.
DOWNSTREAM = ("Snakefile", "workflow/rules/draw.smk", "workflow/rules/report.smk")
#: Prefix of redrawn results: results/redrawn_<name>.
PREFIX = "redrawn_"


def redraw(
    kept: Annotated[
        list[Path] | None, typer.Argument(help="folders that `keep` wrote; all if none")
    ] = None,
) -> None:
    """Redraws every figure and the report from kept tables, into results/redrawn_<name>."""
    for folder in kept or sorted(path.parent for path in REFERENCE.glob(f"*/{CONFIG}")):
        redraw_run(folder)


def redraw_run(reference: Path) -> None:
    """Draws the figures and the report of one kept run.

    Args:
        reference: its folder.

    Raises:
        DataError: the folder was not written by `keep`.
        UserError: a figure could not be drawn.
    """
    config, name = reference / CONFIG, PREFIX + reference.name
    if not config.exists():
        raise DataError(f"{config}: no such file; `python -m flatness keep` writes such a folder")
    command = [program("snakemake"), "--configfile", str(config), "--config", f"name={name}"]
    results = layout.results_of(name)
    for folder in ("correlations", "benchmarks"):
        shutil.copytree(reference / folder, results / folder, dirs_exist_ok=True)
    done = subprocess.run(
        [*command, "--allowed-rules", *downstream_rules(), "--", "all"],
        env=os.environ | {OWNER_VARIABLE: name},
        check=False,
    )
    print_summary(results)
    if done.returncode:
        raise UserError(f"{results}: not all figures could be drawn; the messages above say why")


def downstream_rules() -> list[str]:
    """Names of the rules that draw and report."""
    text = "\n".join(Path(path).read_text(encoding="utf-8") for path in DOWNSTREAM)
    return re.findall(r"^ *(?:use )?rule (?:\w+ as )?(\w+)", text, re.MULTILINE)
