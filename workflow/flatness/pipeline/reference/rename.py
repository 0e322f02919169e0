"""Renames columns of kept tables: `python -m flatness.pipeline.reference.rename FOLDER`.

One word has one meaning in every table: `sharpness` is S, `nmls` the sum over layers. In tables
that were kept with earlier names, it renames columns and names in cells; it changes no number. A
second run changes nothing.
"""

import csv
import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Renamed:
    """New names in some tables.

    Attributes:
        columns: old name of a column -> new.
        cells: column (by its new name) -> old cell -> new.
    """

    columns: dict[str, str] = field(default_factory=dict)
    cells: dict[str, dict[str, str]] = field(default_factory=dict)


def _with_errors(names: dict[str, str]) -> dict[str, str]:
    return names | {f"{old}_se": f"{new}_se" for old, new in names.items()}


_AVERAGE = {
    "adaptive_sharpness": "average_case_sharpness",
    "adaptive_sharpness_sampled": "average_case_sharpness_sampled",
}
_CHEN = _AVERAGE | {"generalisation_gap": "accuracy_gap"}
_OPTIMIZERS = {"optimisers": "optimizers"}
_VIT = _AVERAGE | {"nmls": "normalized_mls"}
_WORST = {
    "sharpness": "worst_case_sharpness",
    "sharpness_clamped": "worst_case_sharpness_clamped",
}
_NAMED = Renamed({"sharpness": "measure", "models": "replication_size"}, {"measure": _WORST})
_MEASURED = Renamed(_with_errors(_WORST), {"reference_of": _WORST})

#: Tables below the folder of a run -> their new names; the first that fits.
TABLES = {
    "correlations/chen/*/checkpoints.csv": Renamed(_with_errors(_CHEN), {"family": _OPTIMIZERS}),
    "correlations/chen/*/bounds.csv": Renamed(
        {"value": "quantity", "kind": "standing"}, {"family": _OPTIMIZERS}
    ),
    "correlations/chen/*/*.csv": Renamed(
        {"interpolated": "interpolating"},
        {"family": _OPTIMIZERS, "x": _CHEN, "y": _CHEN},
    ),
    "report/claims.csv": Renamed({"interpolated": "interpolating"}),
    "correlations/transformers/*.csv": Renamed(_with_errors(_VIT), {"x": _VIT, "y": _VIT}),
    "correlations/cross/*.csv": Renamed(
        {"gap": "loss_gap"}, {"measure": _AVERAGE, "loss": {"gap": "loss_gap"}}
    ),
    "correlations/epfl/*/*/*/correlations.csv": _NAMED,
    "correlations/replications/*/*/*/distribution.csv": _NAMED,
    "correlations/epfl/*/*/*/models.csv": _MEASURED,
    "correlations/replications/*/*/*/models.csv": _MEASURED,
    "correlations/audit/*/*.csv": _MEASURED,
}
#: Files and folders, old name -> new.
FILES = {"optimisers": "optimizers", "chen_optimisers.png": "chen_optimizers.png"}


def renamed(table: str, rows: list[list[str]]) -> list[list[str]]:
    """One table with the current names.

    Args:
        table: its path below the folder of the run.
        rows: cells as text, the header first.

    Returns:
        As many rows of as many cells.
    """
    path = Path(table)
    for pattern, names in TABLES.items():
        if path.match(pattern) and len(path.parts) == len(Path(pattern).parts):
            header = [names.columns.get(name, name) for name in rows[0]]
            maps = [names.cells.get(name, {}) for name in header]
            body = [
                [known.get(cell, cell) for known, cell in zip(maps, row, strict=True)]
                for row in rows[1:]
            ]
            return [header, *body]
    return rows


def renamed_path(path: str) -> str:
    """The current path of a file of a run."""
    return "/".join(FILES.get(part, part) for part in path.split("/"))


def read_cells(text: str) -> list[list[str]]:
    """Rows of a CSV text, with unchanged cells."""
    return list(csv.reader(text.splitlines(keepends=True)))


def rename(folder: Path) -> None:
    """Renames columns, cells and files of a kept run, in place."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        target = folder / renamed_path(name)
        if path.suffix == ".csv":
            old = read_cells(path.read_text(encoding="utf-8"))
            new = renamed(name, old)
            if new != old:
                with path.open("w", encoding="utf-8", newline="") as file:
                    csv.writer(file, lineterminator="\n").writerows(new)
        if target != path:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)


if __name__ == "__main__":
    rename(Path(sys.argv[1]))
