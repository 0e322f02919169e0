"""The inequalities between values and bounds that are checked at every checkpoint.

A violated theorem means a bug; violations of a heuristic are counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from flatness.errors import NumericalError

#: Allowed rounding of a bound relative to its quantity; the two may be equal, as for one output.
TOLERANCE = 1e-9
#: Networks without convolutions: their released bounds are the published theorems.
DENSE_NETWORKS = ("mlp",)


@dataclass(frozen=True)
class Inequality:
    """`quantity` ≤ `bound`, two columns of the measurements.

    Attributes:
        quantity: the smaller one.
        bound: the larger one.
        theorem: whether it always holds.
    """

    quantity: str
    bound: str
    theorem: bool

    @property
    def logarithmic(self) -> bool:
        """Whether both columns are natural logarithms."""
        return self.quantity.startswith("log_")


def _chain(suffix: str) -> tuple[Inequality, ...]:
    """The inequalities for one kind of bound; B ≤ C ≤ D holds for all kinds."""
    theorem = suffix != "_released"
    return (
        Inequality("mls", f"bound_b{suffix}", theorem),
        Inequality(f"bound_b{suffix}", f"bound_c{suffix}", True),
        Inequality(f"bound_c{suffix}", f"bound_d{suffix}", True),
        Inequality("mls", f"bound_d{suffix}", theorem),
        Inequality("nmls", f"nmls_bound{suffix}", theorem),
        Inequality("log_lvr_bound_jacobian", f"log_lvr_bound{suffix}", theorem),
        Inequality("log_nvr", f"log_nvr_bound{suffix}", theorem),
    )


INEQUALITIES = (
    Inequality("log_lvr", "log_lvr_bound_jacobian", True),
    *_chain(""),
    *_chain("_bias"),
    *_chain("_released"),
)


def log10_ratio(table: pd.DataFrame, inequality: Inequality) -> pd.Series:
    """log10(bound / value) of each row; negative where violated, not finite where undefined.

    Args:
        table: rows of `MeasuredCheckpoint`.
        inequality: which.

    Returns:
        One number a row.
    """
    value, bound = table[inequality.quantity], table[inequality.bound]
    if inequality.logarithmic:
        return (bound - value) / np.log(10)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(bound / value)


def is_theorem(table: pd.DataFrame, inequality: Inequality) -> bool:
    """Whether an inequality must hold in every row; without convolutions, released ones must, too.

    Args:
        table: rows of `MeasuredCheckpoint`.
        inequality: which.

    Returns:
        False if it may be violated.
    """
    return inequality.theorem or bool(table["network"].isin(DENSE_NETWORKS).all())


def check_theorems(table: pd.DataFrame) -> None:
    """Checks every theorem in every row.

    Args:
        table: rows of `MeasuredCheckpoint`.

    Raises:
        NumericalError: a theorem is violated beyond rounding; names model, step and quantities.
    """
    for inequality in INEQUALITIES:
        violated = log10_ratio(table, inequality) < -TOLERANCE
        if is_theorem(table, inequality) and violated.any():
            row = table[violated].iloc[0]
            raise NumericalError(
                f"{row['family']} {row['setting']} seed {row['seed']} step {row['step']}: "
                f"{inequality.quantity} = {row[inequality.quantity]:.6g} exceeds its bound "
                f"{inequality.bound} = {row[inequality.bound]:.6g}, against a theorem: "
                "a fault of the measures; please report it"
            )


def tightness(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Each bound compared with its quantity, over all measured checkpoints.

    Args:
        table: rows of `MeasuredCheckpoint`.

    Yields:
        Columns of `BoundTightness`; bounds that are nowhere finite are left out.
    """
    for inequality in INEQUALITIES:
        ratio = log10_ratio(table, inequality)
        ratio = ratio[ratio < np.inf]  # a bound of zero is violated
        if not len(ratio):
            continue
        violations = int((ratio < -TOLERANCE).sum())
        yield {
            "quantity": inequality.quantity,
            "bound": inequality.bound,
            "standing": "theorem" if is_theorem(table, inequality) else "heuristic",
            "median_log10_ratio": float(ratio.median()),
            "lowest_log10_ratio": float(ratio.min()),
            "violations": violations,
            "violation_rate": violations / len(ratio),
            "n": len(ratio),
        }
