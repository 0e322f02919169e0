"""Tidy tables: CSV files whose columns are declared by a pydantic row model.

The row models are the source of the data dictionary: every column has a description, unit, symbol
and convention.
"""

import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from flatness.errors import DataError
from flatness.records.files import atomic_path
from flatness.records.machine import instruction_set


class Row(BaseModel):
    """One row of a table; its fields are the columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def column(description: str, *, unit: str = "", symbol: str = "", convention: str = "") -> Any:
    """Declares a column of a `Row`.

    Args:
        description: its meaning, in one sentence; the same in every table with this column name.
        unit: unit of the value; empty for names, counts and ratios.
        symbol: the papers' symbol.
        convention: loss, protocol or way of counting on which the value depends in this table.

    Returns:
        A pydantic field.
    """
    extra = {"unit": unit, "symbol": symbol, "convention": convention}
    return Field(description=description, json_schema_extra=extra)


class Provenance(Row):
    """Provenance of a row: the last columns of every computed row."""

    experiment: str = column("hash of the settings that determine the row")
    commit: str = column("commit of the code; 'unknown' outside a git checkout")
    dirty: bool = column("whether tracked files differed from that commit")
    torch_version: str = column("version of PyTorch")
    python_version: str = column("version of Python")
    instruction_set: str = column(
        "what the processor computed with: AVX512, AVX2 or DEFAULT for PyTorch's kernels, after a "
        "slash the most that oneDNN was allowed; joined by + where the rows it follows from differ"
    )
    device: str = column("kind of device: cpu or cuda")
    execution: str = column(
        "models trained or measured one by one (loop; fused where no gradient is stored) or as one "
        "(stacked)"
    )


#: Columns that should have one value in combined rows -> words for the difference otherwise.
MIXED = {"torch_version": "versions of PyTorch", "instruction_set": "instruction sets"}


@cache
def commit_here() -> tuple[str, bool]:
    """The code's commit, "unknown" outside a git checkout; whether tracked files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout.strip()

    try:
        # A copy installed into an environment inside another repository has no commit.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD"), bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False


@cache
def _package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def provenance(
    experiment: str,
    *,
    device: str = "cpu",
    execution: str = "loop",
    computed_with: str | None = None,
) -> dict[str, Any]:
    """The `Provenance` columns of a row that is computed now.

    Args:
        experiment: hash of the settings (`flatness.records.frozen.content_hash`).
        device: "cpu" or "cuda".
        execution: "loop", "fused" or "stacked".
        computed_with: instruction set; None for this process's, which loads PyTorch.

    Returns:
        Column name to value.
    """
    commit, dirty = commit_here()
    return {
        "experiment": experiment,
        "commit": commit,
        "dirty": dirty,
        "torch_version": _package_version("torch"),
        "python_version": platform.python_version(),
        "instruction_set": instruction_set() if computed_with is None else computed_with,
        "device": device,
        "execution": execution,
    }


def write_table(path: Path, rows: Sequence[Row], row: type[Row] | None = None) -> None:
    """Writes rows of one model as CSV, atomically; floats keep every digit.

    Args:
        path: the file to write.
        rows: at least one row, unless `row` is given.
        row: the model of the rows, for a table that may be empty.

    Raises:
        DataError: no rows, or the file cannot be written.
    """
    if not rows and row is None:
        raise DataError(f"{path}: a table without rows; nothing was written")
    columns = list((row or type(rows[0])).model_fields)
    frame = pd.DataFrame([line.model_dump() for line in rows], columns=columns)
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, na_rep="nan")


def read_text(path: Path) -> pd.DataFrame:
    """Reads a CSV file with any columns.

    Args:
        path: the file.

    Returns:
        Every cell as text.

    Raises:
        DataError: the file is missing or is no table.
    """
    return _read(path, dtype=str)


def read_values(path: Path) -> pd.DataFrame:
    """Reads a CSV file with any columns; numbers become numbers.

    Args:
        path: the file, as `write_table` writes it: empty cells are empty texts.

    Returns:
        A table with the columns of the file.

    Raises:
        DataError: the file is missing or is no table.
    """
    return _read(path, na_values=["nan"])


def _read(path: Path, **options: Any) -> pd.DataFrame:
    try:
        return pd.read_csv(path, keep_default_na=False, **options)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such table; run the step that makes it") from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: not a readable CSV table ({error}); delete it and run again"
        ) from error


def read_table(path: Path, row: type[Row]) -> pd.DataFrame:
    """Reads a CSV file and checks it against its row model.

    Args:
        path: the file.
        row: the model that its rows must fit.

    Returns:
        One column per field, in the model's order and types.

    Raises:
        DataError: the file is missing, or a column or value does not fit; names file, column, row.
    """
    raw = read_text(path)
    missing = [name for name in row.model_fields if name not in raw.columns]
    unknown = [name for name in raw.columns if name not in row.model_fields]
    if missing or unknown:
        raise DataError(
            f"{path}: columns missing: {missing or 'none'}, unknown: {unknown or 'none'}; "
            "it was made by another version: delete it and run again"
        )
    try:
        rows = TypeAdapter(list[row]).validate_python(raw.to_dict("records"))
    except ValidationError as error:
        index, name = error.errors()[0]["loc"][:2]
        raise DataError(
            f"{path}: row {index + 1}, column {name}: {error.errors()[0]['msg']}, "
            f"found {error.errors()[0]['input']!r}; delete the file and run again"
        ) from error
    return pd.DataFrame([item.model_dump() for item in rows], columns=list(row.model_fields))


def read_tables(paths: Iterable[Path], row: type[Row]) -> pd.DataFrame:
    """Reads several tables of one model into one; warns if their provenance differs.

    Args:
        paths: the files.
        row: the model their rows must fit.

    Returns:
        All rows, in the order of the files.
    """
    table = pd.concat([read_table(path, row) for path in paths], ignore_index=True)
    for name, what in MIXED.items():
        if name in table and table[name].nunique() > 1:
            found = ", ".join(sorted(table[name].unique()))
            print(f"warning: rows made with different {what}: {found}", file=sys.stderr)
    return table


def data_dictionary(rows: Iterable[type[Row]]) -> pd.DataFrame:
    """One line per column: table, column, type, unit, symbol, convention, description."""
    lines = []
    for row in rows:
        for name, field in row.model_fields.items():
            extra = field.json_schema_extra or {}
            kind = getattr(field.annotation, "__name__", str(field.annotation))
            lines.append(
                {"table": row.__name__, "column": name, "type": kind}
                | extra
                | {"description": field.description}
            )
    return pd.DataFrame(lines)
