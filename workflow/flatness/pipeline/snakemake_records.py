"""Snakemake's records of how each output was made, and results without records."""

from base64 import urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path

from flatness.records import layout

#: Where Snakemake keeps them.
RECORDS = Path(".snakemake/metadata")


def recorded() -> Iterator[tuple[str, Path]]:
    """Every output that has a record in this folder, and the record's path below `RECORDS`."""
    for file in RECORDS.rglob("*"):
        if file.is_file():
            key = file.relative_to(RECORDS)
            # The output's path in base64, a long one in pieces marked by @.
            encoded = "".join(part.removeprefix("@") for part in key.parts)
            yield urlsafe_b64decode(encoded).decode(), key


def manifest_path(name: str) -> Path:
    """Where the manifest of a configuration's results lies."""
    return layout.results_of(name) / layout.MANIFEST


def came_from_elsewhere(name: str) -> bool:
    """Whether results have a manifest but no records, as in a fresh clone.

    Snakemake treats a file without a record as up to date, however it was made.

    Args:
        name: of the configuration.

    Returns:
        False for results that were made or adopted here, and if there are none.
    """
    if not manifest_path(name).exists():
        return False
    return not any(path.startswith(f"{layout.results_of(name)}/") for path, _ in recorded())
