"""Provenance of tables that are computed from other tables."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from flatness.records.frozen import content_hash
from flatness.records.tables import provenance


def derived_from(*tables: pd.DataFrame, **settings: Any) -> dict[str, Any]:
    """The provenance columns of rows that are computed from other rows.

    Args:
        *tables: all input tables, with provenance columns.
        **settings: other settings that determine the rows, such as the resampling.

    Returns:
        Column name to value; the hash changes with the settings and with every table's experiments.
    """
    return provenance(
        content_hash(settings | {"rows": sorted(_kinds(tables, "experiment"))}),
        device=_joined(tables, "device"),
        execution=_joined(tables, "execution"),
        computed_with=_joined(tables, "instruction_set"),
    )


def _kinds(tables: tuple[pd.DataFrame, ...], name: str) -> set[str]:
    """The values of one column in all tables."""
    return set().union(*(table[name] for table in tables))


def _joined(tables: tuple[pd.DataFrame, ...], name: str) -> str:
    """The values of one column in all tables, as one text."""
    return together(_kinds(tables, name))


def together(kinds: Iterable[str]) -> str:
    """The provenance of a row computed from several rows, as one text.

    Args:
        kinds: values of one provenance column, possibly joined ones; empty values do not count.

    Returns:
        Each once, sorted, joined by +.
    """
    return "+".join(sorted({part for kind in kinds for part in kind.split("+") if part}))
