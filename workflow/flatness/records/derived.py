"""Provenance of tables that are computed from other tables."""

from typing import Any

import pandas as pd

from flatness.records.frozen import content_hash
from flatness.records.tables import provenance


def derived_from(*tables: pd.DataFrame, **settings: Any) -> dict[str, Any]:
    """The provenance columns of rows that follow from other rows.

    Args:
        *tables: all that enter, with provenance columns.
        **settings: what else determines the rows, such as the resampling.

    Returns:
        Column name to value; the hash changes with the settings and with every table's experiments.
    """
    rows = sorted(set().union(*(table["experiment"] for table in tables)))
    first = tables[0].iloc[0]
    return provenance(
        content_hash(settings | {"rows": rows}),
        device=first["device"],
        execution=first["execution"],
    )
