"""Effects of learning rate and batch size: differences between models of the same seed.

If the factor has few levels, a rank correlation over models cannot exceed a ceiling, and has no
valid interval there. Differences within seeds have a valid interval, and Page's test uses every
level.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from flatness.statistics.correlations import mean_interval, sign_flip_p
from flatness.statistics.settings import Statistics
from flatness.studies.chen.matched import compared_at
from flatness.studies.chen.quantities import COMPRESSION, one_factor, steps_behind
from flatness.studies.chen.within_groups import account

FACTORS = ("learning_rate", "batch_size")
MOVED = ("root_sharpness", *COMPRESSION)


def factor_effects(table: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Effects on every quantity that a factor is claimed to change, at equal steps and losses.

    Args:
        table: rows of `MeasuredCheckpoint` with derived columns.
        settings: of the intervals.

    Yields:
        Columns of `FactorEffect`; nothing for a factor with one level.
    """
    for at, models in compared_at(table).items():
        for factor in FACTORS:
            part = one_factor(models, factor)
            if part[factor].nunique() > 1:
                for y in MOVED:
                    found = effect(part, factor, y, settings)
                    place = {"factor": factor, "y": y, "at": at, "steps": steps_behind(part)}
                    yield place | found


def effect(models: pd.DataFrame, factor: str, y: str, settings: Statistics) -> dict[str, Any]:
    """One quantity at the highest level of a factor minus that at the lowest, paired by seed.

    Args:
        models: one row per model; only the factor and the seed vary.
        factor: column of the levels.
        y: column of the quantity.
        settings: of the intervals.

    Returns:
        The remaining columns of `FactorEffect`; NaN if no seed has every level.
    """
    wide = models.pivot(index="seed", columns=factor, values=y).sort_index(axis=1)
    whole = wide[np.isfinite(wide).all(axis=1)]
    values = whole.to_numpy()
    differences = values[:, -1] - values[:, 0]
    row = {"lowest": float(wide.columns[0]), "highest": float(wide.columns[-1])}
    row |= account(models, models["seed"].isin(whole.index).to_numpy()) | {"n": len(whole)}
    row["estimate"] = float(differences.mean()) if len(differences) else np.nan
    row |= vars(mean_interval(differences, settings.confidence))
    row |= {"p_permutation": np.nan, "p_page": np.nan}
    if len(differences) > 1 and np.ptp(differences) > 0:
        draws = {"resamples": settings.resamples, "seed": settings.seed}
        row["p_permutation"] = sign_flip_p(differences, **draws)
    if len(values) > 1 and values.shape[1] > 2:
        row["p_page"] = page_p(values)
    return row


def page_p(values: np.ndarray) -> float:
    """Two-sided p-value of Page's test for a trend over columns, (seeds, levels)."""
    levels = np.arange(1, values.shape[1] + 1)
    one_sided = [
        stats.page_trend_test(values, predicted_ranks=ranks).pvalue
        for ranks in (levels, levels[::-1])
    ]
    return float(min(1.0, 2 * min(one_sided)))
