"""The committed runs, one folder per configuration: keep, redraw, compare with other runs."""

from flatness.records import layout

#: Folder of the kept runs in the project: `REFERENCE / name of the configuration`.
REFERENCE = layout.results_of("reference")
#: The kept run with which runs are compared if no run of their name is kept.
LAPTOP = REFERENCE / "laptop"
#: The kept run on the published training images.
SCALE = REFERENCE / "scale"
#: Folders and files of a run that are kept unchanged.
KEPT = (
    layout.glob(f"{layout.CORRELATIONS}/{{job}}.csv"),
    layout.glob(layout.BENCHMARK),
    layout.LEDGER,
    layout.DICTIONARY,
    layout.glob(layout.PICTURE),
)
#: Name of the configuration in a kept run's folder.
CONFIG = "config.yaml"
#: Results of `make bench`, beside the kept runs.
BENCHMARK = "benchmark.json"
