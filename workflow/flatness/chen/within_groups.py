"""Correlations within groups of models and along runs, and their mean over groups or runs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from flatness.chen.quantities import COMPRESSION
from flatness.config import Statistics
from flatness.statistics import MINIMUM_MODELS, held_fixed

#: Pairs that are looked at among models of one seed, and among models of one setting.
WITHIN_PAIRS = (
    *(("root_sharpness", y) for y in COMPRESSION),
    ("mls", "bound_d_released"),
    ("nmls", "nmls_bound_released"),
)

UNDEFINED = dict.fromkeys(("estimate", "low", "high", "p_value", "p_permutation"), np.nan)


def within(models: pd.DataFrame, group: str, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Tells what settings do to models from what initial weights do.

    Over all models both are mixed: models of one seed share initial weights and differ by setting,
    models of one setting differ by seed.

    Args:
        models: one row a model, with derived columns.
        group: "seed" or "setting": what the models of a group share.
        settings: of the resampling.

    Yields:
        Columns of `FamilyCorrelation`: `WITHIN_PAIRS` by Pearson's r of each group with three or
        more models, averaged over groups; nothing where there is no such group.
    """
    over = {"seed": "settings", "setting": "seeds"}[group]
    for x, y in WITHIN_PAIRS:
        finite = np.isfinite(models[[x, y]]).all(axis=1)
        found = [_pearson(part, x, y) for _, part in models[finite].groupby(group)]
        values = np.array([r for r in found if np.isfinite(r)])
        if not len(values):
            continue
        row = {"over": over, "x": x, "y": y, "covariate": "", "method": "pearson"}
        row |= {"n": len(values), "interpolated": int(models[finite]["interpolated"].sum())}
        yield row | excluded(models[~finite]) | _mean_over_runs(values, settings)


def _pearson(models: pd.DataFrame, x: str, y: str) -> float:
    """Pearson's r; NaN for fewer than three models, or where a quantity does not vary."""
    a, b = models[x].to_numpy(), models[y].to_numpy()
    if len(models) < MINIMUM_MODELS or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(stats.pearsonr(a, b)[0])


def over_checkpoints(table: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Whether compression follows sharpness along training.

    Checkpoints of one run follow each other, so they are not independent: each run gives one
    coefficient, and runs are what the interval and the p-values are over.

    Args:
        table: rows with derived columns; runs with at least 4 checkpoints are used.
        settings: of the resampling.

    Yields:
        Columns of `FamilyCorrelation`: sharpness with each measure of compression, alone and with
        the training loss held fixed; nothing where no run was measured along training.
    """
    table = table[table["sampled"] == "train"]
    runs = [run for _, run in table.groupby(["setting", "seed"]) if len(run) >= 4]
    if not runs:
        return
    for y in COMPRESSION:
        for covariate in ("", "train_loss"):
            names = ["root_sharpness", y, "train_loss"]
            whole = [run for run in runs if np.isfinite(run[names]).all(axis=None)]
            found = [_along(run, y, covariate) for run in whole]
            used = [run for run, r in zip(whole, found, strict=True) if np.isfinite(r)]
            left_out = [run.iloc[[-1]] for run in runs if not any(run is other for other in used)]
            row = {"over": "checkpoints", "x": "root_sharpness", "y": y}
            row |= {"covariate": covariate, "method": "spearman", "n": len(used)}
            row["interpolated"] = sum(bool(run["interpolated"].iloc[-1]) for run in used)
            row |= excluded(pd.concat(left_out) if left_out else runs[0].iloc[:0])
            yield row | _mean_over_runs(np.array(found)[np.isfinite(found)], settings)


def _along(run: pd.DataFrame, y: str, covariate: str) -> float:
    """Spearman's (partial) correlation of √S and y over one run's checkpoints; NaN if constant."""
    a, b = run["root_sharpness"].to_numpy(), run[y].to_numpy()
    if covariate:
        a, b = held_fixed(a, b, run[covariate].to_numpy())
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(stats.pearsonr(a, b)[0] if covariate else stats.spearmanr(a, b)[0])


def _mean_over_runs(values: np.ndarray, settings: Statistics) -> dict[str, float]:
    """Mean of the runs' or groups' coefficients, its t interval, t-test and sign-flip test."""
    if len(values) < MINIMUM_MODELS:
        return UNDEFINED
    if np.ptp(values) == 0:
        return UNDEFINED | {"estimate": float(values[0])}
    test = stats.ttest_1samp(values, 0)
    interval = test.confidence_interval(settings.confidence)
    flips = stats.permutation_test(
        (values,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=settings.resamples,
        rng=np.random.default_rng(settings.seed),
    )
    return {
        "estimate": float(values.mean()),
        "low": max(float(interval.low), -1.0),
        "high": min(float(interval.high), 1.0),
        "p_value": float(test.pvalue),
        "p_permutation": float(flips.pvalue),
    }


def excluded(left_out: pd.DataFrame) -> dict[str, Any]:
    """The columns `excluded` and `reasons`.

    Args:
        left_out: rows of the models or runs that are not used.

    Returns:
        How many, and why, with counts.
    """
    reasons = left_out["reason"].replace("", "a quantity is not finite or does not vary")
    counts = reasons.value_counts()
    text = "; ".join(f"{count} × {reason}" for reason, count in counts.items())
    return {"excluded": len(left_out), "reasons": text}
