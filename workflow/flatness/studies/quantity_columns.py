"""The columns of every table that holds measured quantities."""

from typing import Any

from flatness.measures.quantities import QUANTITIES
from flatness.records.tables import column


def quantity_columns() -> dict[str, tuple[type, Any]]:
    """Fields of a row model: each quantity, and its standard error as `<name>_se`."""
    found: dict[str, tuple[type, Any]] = {}
    for name, quantity in QUANTITIES.items():
        found[name] = (
            float,
            column(
                f"{quantity.description} ({quantity.kind})",
                unit=quantity.unit,
                symbol=quantity.symbol,
                convention=quantity.convention,
            ),
        )
        found[f"{name}_se"] = (
            float,
            column(f"standard error of {name}, jackknife over samples", unit=quantity.unit),
        )
    return found
