"""Runs the real Snakefile in another folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

from checkout import ROOT


def snakemake(folder, *arguments, config="demo"):
    """Runs the real Snakefile in another working folder."""
    config = config if str(config).endswith(".yaml") else ROOT / "config" / f"{config}.yaml"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
        + ["--configfile", config, *arguments],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


def job_counts(text):
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", text, re.M)}
