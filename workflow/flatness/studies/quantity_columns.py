"""The columns of every table that holds measured quantities."""

from typing import Any

from flatness.measures.quantities import QUANTITIES
from flatness.records.tables import column


def described(name: str, *, symbol: str = "", convention: str = "") -> Any:
    """A column with a quantity of the registry that was not computed by `measure`.

    Args:
        name: of the quantity.
        symbol: as in the paper that the table replicates.
        convention: loss, or how it was computed.

    Returns:
        A pydantic field with the registry's description.
    """
    return column(_description(name), symbol=symbol, convention=convention)


def quantity_columns() -> dict[str, tuple[type, Any]]:
    """Fields of a row model: each quantity, and its standard error as `<name>_se`."""
    found: dict[str, tuple[type, Any]] = {}
    for name, quantity in QUANTITIES.items():
        found[name] = (
            float,
            column(
                _description(name),
                unit=quantity.unit,
                symbol=quantity.symbol,
                convention=quantity.convention,
            ),
        )
        found[f"{name}_se"] = (
            float,
            column(
                f"standard error of {name}",
                unit=quantity.unit,
                convention="jackknife over samples",
            ),
        )
    return found


def _description(name: str) -> str:
    return f"{QUANTITIES[name].description} ({QUANTITIES[name].kind})"
