"""A pool trained and measured as released, compared with its published sources."""

import math

import numpy as np
import pandas as pd
from scipy import stats

from flatness.records.derived import derived_from
from flatness.statistics.correlations import correlate
from flatness.statistics.settings import Statistics
from flatness.studies.epfl.published import (
    FIGURE,
    interval_error,
    mean_and_spread,
    source_values,
)
from flatness.studies.epfl.rows import PublishedRange, SourceComparison

#: Number of standard errors of the difference beyond which two numbers differ.
LARGEST_Z = 3.0


def against_source(pool: str, joined: pd.DataFrame, settings: Statistics) -> list[SourceComparison]:
    """Compares mean, spread, losses, accuracy and τ of a pool with each source of them.

    Args:
        pool: fcnn, lenet5 or gat.
        joined: its models as released, as `join_pool` returns them.
        settings: resampling.

    Returns:
        One line per source and quantity.
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
                # For made-up data there is no source to compare with.
                differs=abs(z) > LARGEST_Z and not first["demo"],
                **made,
            )
        )
    return rows


def ranges(
    pool: str, joined: pd.DataFrame, protocols: dict[str, str], settings: Statistics
) -> list[PublishedRange]:
    """Mean and spread of a pool's sharpness and test loss over those of the published scatter.

    Args:
        pool: fcnn, lenet5 or gat.
        joined: its models under any protocol, as `join_pool` returns them.
        protocols: `trained` and `measured`.
        settings: resampling, with the level of the intervals.

    Returns:
        One line per quantity.
    """
    used, first = joined[joined["used"]], joined.iloc[0]
    ours = own_values(used, settings)
    made = derived_from(joined, statistics=settings.model_dump())
    t = stats.t(len(used) - 1)
    reach = float(t.ppf((1 + settings.confidence) / 2))
    rows = []
    for source in source_values(pool, settings):
        if source.source != FIGURE or source.quantity == "tau":
            continue
        value, error = ours[source.quantity]
        # d(a/b) = (da − (a/b) db)/b: no division by our value, which may be near 0.
        ratio = value / source.value
        spread = float(np.hypot(error, ratio * source.error)) / abs(source.value)
        rows.append(
            PublishedRange(
                pool=pool,
                dataset=first["dataset"],
                demo=first["demo"],
                train_size=first["train_size"],
                **protocols,
                compared=source.quantity,
                ours=value,
                source_value=source.value,
                ratio_to_source=ratio,
                low=ratio - reach * spread,
                high=ratio + reach * spread,
                p_value=float(2 * t.sf(abs(ratio - 1) / spread)),
                confidence=settings.confidence,
                n=len(used),
                excluded=len(joined) - len(used),
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
