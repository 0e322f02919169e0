"""The verb `compare`: compares a run's tables with the reference's, value by value.

On one machine with the same packages, repeated runs are equal to the byte. Between machines the
last bits of float32 sums differ, and training amplifies the differences. So a value agrees if it is
within a stated share of the reference's value, or within 3 standard errors of the difference (if
both tables give standard errors), or inside the reference's interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.table import Table

from flatness.errors import DataError, NumericalError
from flatness.pipeline.reference import LAPTOP, REFERENCE
from flatness.records.tables import Provenance, read_values
from flatness.terminal import console

TOLERANCE = 0.05
STANDARD_ERRORS = 3.0
#: Whole numbers that identify a row; all other numbers are values.
NUMBERED = ("seed", "step", "replication")
#: Texts that are results and do not identify a row.
FOUND = ("reason", "reasons", "status", "corner", "verdict")
#: Not compared: columns computed from compared columns, and provenance.
FOLLOWS = ("p_value", "p_permutation", "q_value", "low", "high", "fixed_in")


@dataclass(frozen=True)
class Comparison:
    """One table of two runs.

    Attributes:
        table: path below the results folders.
        rows: number of rows in both.
        values: number of values compared.
        outside: number of values beyond the tolerance.
        remark: the worst of them, or why the tables cannot be compared.
        agrees: whether nothing differs.
    """

    table: str
    rows: int = 0
    values: int = 0
    outside: int = 0
    remark: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the tables have the same rows and no value beyond the tolerance."""
        return not self.remark


def compare(
    results: Annotated[Path, typer.Argument(help="folder of a run, such as results/laptop")],
    reference: Annotated[
        Path | None,
        typer.Option(
            help="the run to compare it with; by default the kept run of its name, or the laptop's"
        ),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="share of a value", min=0.0)] = TOLERANCE,
) -> None:
    """Shows which tables of a run differ from the reference's, and where."""
    if reference is None:
        own = REFERENCE / results.name
        reference = own if own.exists() else LAPTOP
    names = [path.relative_to(reference) for path in sorted(reference.glob("**/*.csv"))]
    if not names:
        raise DataError(f"{reference}: no tables; give the folder of a run")
    require_results(results, names)
    found = [compare_tables(results, reference, name, tolerance) for name in names]
    layout = Table(title=f"{results} against {reference}, tolerance {tolerance:.0%}")
    for heading in ("table", "rows", "values", "outside", "remark"):
        right = heading in "rows values outside"
        layout.add_column(heading, justify="right" if right else "left", overflow="fold")
    for one in found:
        cells = (one.table, str(one.rows), str(one.values), str(one.outside), one.remark)
        layout.add_row(*cells, style="" if one.agrees else "red")
    console().print(layout)
    differing = sum(not one.agrees for one in found)
    if differing:
        raise NumericalError(
            f"{results}: {differing} of {len(found)} tables differ from {reference}; the list "
            "above says where"
        )


def require_results(results: Path, names: Sequence[Path]) -> None:
    """Refuses a folder without results, which is not a run that differs.

    Args:
        results: folder of a run.
        names: the reference's tables.

    Raises:
        DataError: it contains none of these tables.
    """
    if any((results / name).exists() for name in names):
        return
    config = Path(f"config/{results.name}.yaml")
    first = f"run `python -m flatness run {config}` first, or " if config.exists() else ""
    raise DataError(
        f"{results}: no results here; {first}name the folder of a run (with make: RUN=…)"
    )


def compare_tables(results: Path, reference: Path, name: Path, tolerance: float) -> Comparison:
    """Compares one table with the reference's.

    Args:
        results: folder of a run.
        reference: folder of the other.
        name: of the table in both.
        tolerance: share of a value by which it may differ.

    Returns:
        The result of the comparison.
    """
    if not (results / name).exists():
        return Comparison(str(name), remark="missing")
    ours, theirs = (_read(folder / name) for folder in (results, reference))
    if list(ours.columns) != list(theirs.columns):
        differing = sorted({*ours.columns} ^ {*theirs.columns})
        return Comparison(str(name), remark=f"other columns: {', '.join(differing)}")
    keys = [column for column in theirs if _is_key(theirs[column], column)]
    if not ours[keys].equals(theirs[keys]):
        return Comparison(str(name), len(ours), remark=f"other rows: {len(theirs)} expected")
    outside = pd.DataFrame(
        {
            column: _outside(ours, theirs, column, tolerance)
            for column in theirs.columns.difference([*keys, *FOLLOWS], sort=False)
        }
    )
    worst = ""
    if outside.to_numpy().any():
        row, column = np.argwhere(outside.to_numpy())[0]
        column = outside.columns[column]
        place = ", ".join(map(str, theirs.loc[row, keys]))
        worst = f"{column} of {place}: {ours.loc[row, column]}, not {theirs.loc[row, column]}"
    return Comparison(str(name), len(ours), outside.size, int(outside.to_numpy().sum()), worst)


def _read(path: Path) -> pd.DataFrame:
    table = read_values(path)
    return table.drop(columns=[name for name in Provenance.model_fields if name in table])


def _is_key(values: pd.Series, name: str) -> bool:
    if name in (*FOUND, *FOLLOWS):
        return False
    return name in NUMBERED or not pd.api.types.is_numeric_dtype(values)


def _outside(ours: pd.DataFrame, theirs: pd.DataFrame, column: str, tolerance: float) -> pd.Series:
    """Which rows differ by more than the tolerance."""
    if not pd.api.types.is_numeric_dtype(theirs[column]):
        return ours[column] != theirs[column]
    a, b = ours[column].astype(float), theirs[column].astype(float)
    same = np.isclose(a, b, rtol=tolerance, atol=0, equal_nan=True)
    error = f"{column}_se"
    if error in theirs:
        same |= (a - b).abs() <= STANDARD_ERRORS * np.hypot(ours[error], theirs[error])
    if {"low", "high"} <= {*theirs.columns} and column in ("estimate", "tau", "mean_tau"):
        same |= a.between(theirs["low"], theirs["high"])
    return pd.Series(~same, index=theirs.index)
