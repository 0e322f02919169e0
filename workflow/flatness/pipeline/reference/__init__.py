"""The committed runs, one folder a configuration: keeping, redrawing, comparing with others."""

from flatness.records import layout

#: Where the kept runs lie, below the project's folder: `REFERENCE / name of the configuration`.
REFERENCE = layout.results_of("reference")
#: The one that others are held against where none of their name is kept.
LAPTOP = REFERENCE / "laptop"
#: Folders and files of a run that are kept as they are.
KEPT = (
    layout.glob(f"{layout.CORRELATIONS}/{{job}}.csv"),
    layout.glob(layout.BENCHMARK),
    layout.LEDGER,
    layout.DICTIONARY,
    layout.glob(layout.PICTURE),
)
#: Name of the configuration in a kept run's folder.
CONFIG = "config.yaml"
#: What `make bench` measured, beside the kept runs.
BENCHMARK = "benchmark.json"
