"""The workflow's own time: redrawing everything, nothing, and one figure, from the kept tables.

Run as `python -m benchmarks.workflow OUTPUT.json` in the project's folder. Wall seconds.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from flatness.pipeline.reference import LAPTOP
from flatness.pipeline.reference.redraw import PREFIX
from flatness.records.files import atomic_path

RESULTS = Path("results") / f"{PREFIX}{LAPTOP.name}"


def redraw() -> float:
    start = time.monotonic()
    command = [sys.executable, "-m", "flatness", "redraw", str(LAPTOP)]
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - start


def main(output: str) -> None:
    shutil.rmtree(RESULTS, ignore_errors=True)
    figures = len(list(LAPTOP.glob("figures/*.png")))
    record = {"figures": figures, "everything_s": redraw(), "nothing_s": redraw()}
    (RESULTS / "figures/chen_fig3.png").unlink()
    record["one_figure_s"] = redraw()
    for name, value in record.items():
        print(f"{name:14} {value:6.1f}")
    with atomic_path(Path(output)) as temporary:
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
