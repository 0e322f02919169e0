"""The committed reference run: keeping it, redrawing from it, holding other runs against it."""

from flatness.records import layout

#: Where the kept run lies, below the project's folder.
REFERENCE = layout.results_of("reference")
#: Folders and files of a run that are kept as they are.
KEPT = (
    layout.glob(f"{layout.CORRELATIONS}/{{job}}.csv"),
    layout.glob(layout.BENCHMARK),
    layout.LEDGER,
    layout.DICTIONARY,
    layout.glob(layout.PICTURE),
)
#: Name of the configuration in the kept run's folder.
CONFIG = "config.yaml"
#: What `make bench` measured, in the same folder.
BENCHMARK = "benchmark.json"
