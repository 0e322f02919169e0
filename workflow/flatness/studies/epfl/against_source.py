"""A pool trained and measured as released, held against what its source gives."""

import math

import numpy as np
import pandas as pd

from flatness.records.derived import derived_from
from flatness.statistics.correlations import correlate
from flatness.statistics.settings import Statistics
from flatness.studies.epfl.published import interval_error, mean_and_spread, source_values
from flatness.studies.epfl.rows import SourceComparison

#: Standard errors of the difference beyond which two numbers are said to differ.
LARGEST_Z = 3.0


def against_source(pool: str, joined: pd.DataFrame, settings: Statistics) -> list[SourceComparison]:
    """Compares mean, spread, losses, accuracy and τ of a pool with each source of them.

    Args:
        pool: fcnn, lenet5 or gat.
        joined: its models as released, as `join_pool` returns them.
        settings: resampling.

    Returns:
        One line a source and quantity.
    """
    used = joined[joined["used"]]
    ours, first = own_values(used, settings), joined.iloc[0]
    made = derived_from(joined, statistics=settings.model_dump())
    rows = []
    for source in source_values(pool, settings):
        value, error = ours[source.quantity]
        source_error = error if math.isnan(source.error) else source.error
        z = float((value - source.value) / np.hypot(error, source_error))
        rows.append(
            SourceComparison(
                pool=pool,
                dataset=first["dataset"],
                demo=first["demo"],
                origin=source.source,
                compared=source.quantity,
                ours=value,
                error=error,
                n=len(used),
                excluded=len(joined) - len(used),
                source_value=source.value,
                source_error=source_error,
                source_n=source.models,
                z=z,
                # On made-up data there is nothing to agree with.
                differs=abs(z) > LARGEST_Z and not first["demo"],
                **made,
            )
        )
    return rows


def own_values(used: pd.DataFrame, settings: Statistics) -> dict[str, tuple[float, float]]:
    """Each quantity of `SourceComparison` with its standard error.

    Args:
        used: the usable models, as `join_pool` returns them.
        settings: resampling.

    Returns:
        Quantity to value and error.
    """
    found = {}
    for column in ("worst_case_sharpness", "test_loss", "test_accuracy"):
        found[column], found[f"{column}_sd"] = mean_and_spread(used[column])
    tau = correlate(
        used["worst_case_sharpness"], used["test_loss"], method="kendall", **settings.model_dump()
    )
    found["tau"] = tau.estimate, interval_error(tau.low, tau.high, settings.confidence)
    return found
