"""The committed reference run: keeping it, redrawing from it, holding other runs against it."""

from pathlib import Path

#: Where the kept run lies, below the project's folder.
REFERENCE = Path("results/reference")
#: Folders and files of a run that are kept as they are.
KEPT = ("correlations/**/*.csv", "benchmarks/**/*.tsv", "report/*.csv", "figures/*.png")
#: Name of the configuration in the kept run's folder.
CONFIG = "config.yaml"
#: What `make bench` measured, in the same folder.
BENCHMARK = "benchmark.json"
