"""Runs every benchmark, one after the other, each in a process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.record import gather
from flatness.pipeline.allocation import ALLOCATION
from flatness.pipeline.reference import BENCHMARK, REFERENCE

NAMES = ("measures", "peers", "epfl", "chen", "gpu", "transformers", "workflow")
#: Those that need other libraries run where these are.
PYTHON = {"peers": ".venv-concordance/bin/python"}


def main() -> int:
    """Writes results/benchmarks/<name>.json for each, then the record; returns how many failed."""
    folder = Path("results/benchmarks")
    shutil.rmtree(folder, ignore_errors=True)  # results of earlier code
    folder.mkdir(parents=True)
    as_jobs = os.environ | ALLOCATION | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    failed = 0
    for name in NAMES:
        print(f"\n{name}", flush=True)
        command = [
            PYTHON.get(name, sys.executable),
            "-m",
            f"benchmarks.{name}",
            str(folder / f"{name}.json"),
        ]
        failed += bool(subprocess.run(command, env=as_jobs, check=False).returncode)
    gather(folder, REFERENCE / BENCHMARK)
    return failed


if __name__ == "__main__":
    sys.exit(main())
