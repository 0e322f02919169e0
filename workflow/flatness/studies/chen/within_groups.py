"""Correlations among the models of one seed or one setting and along runs, and their means.

Over all models, effects of settings and of initial weights are mixed; here they are separated.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from flatness.statistics.correlations import (
    MINIMUM_MODELS,
    held_fixed,
    jackknife_interval,
    pearson,
    permutation_p,
    sign_flip_p,
)
from flatness.statistics.settings import Statistics
from flatness.studies.chen.quantities import COMPRESSION, along_training

#: Pairs that are correlated over models of one seed, and over models of one setting.
WITHIN_PAIRS = (
    *(("root_sharpness", y) for y in COMPRESSION),
    ("mls", "bound_d_released"),
    ("nmls", "nmls_bound_released"),
)

UNDEFINED = dict.fromkeys(("estimate", "low", "high", "p_value", "p_permutation"), np.nan)


def among_settings(models: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Effects of settings on models with the same initial weights.

    Args:
        models: one row per model, with derived columns.
        settings: of the resampling.

    Yields:
        Columns of `FamilyCorrelation`: `WITHIN_PAIRS` by Pearson's r over each seed's settings,
        averaged over seeds; nothing if no seed has three models.
    """
    for x, y in WITHIN_PAIRS:
        finite = models[np.isfinite(models[[x, y]]).all(axis=1)]
        found = {seed: _pearson(part, x, y) for seed, part in finite.groupby("seed")}
        values = {seed: r for seed, r in found.items() if np.isfinite(r)}
        if not values:
            continue
        row = {"over": "settings", "x": x, "y": y, "covariate": "", "method": "pearson"}
        used = models.index.isin(finite.index[finite["seed"].isin(list(values))])
        row |= account(models, used) | {"n": len(values)}
        yield row | _mean_over_seeds(np.array(list(values.values())), settings)


def among_seeds(models: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Effects of initial weights on models of the same setting.

    All settings share the seeds, so the interval and the p-value are over seeds.

    Args:
        models: one row per model, with derived columns.
        settings: of the resampling.

    Yields:
        Columns of `FamilyCorrelation`: `WITHIN_PAIRS` by Pearson's r over each setting's seeds,
        averaged over settings; nothing if fewer than three seeds have a model of each.
    """
    for x, y in WITHIN_PAIRS:
        wide = models.pivot(index="seed", columns="setting", values=[x, y])
        whole = wide[np.isfinite(wide).all(axis=1)]
        if len(whole) < MINIMUM_MODELS:
            continue
        row = {"over": "seeds", "x": x, "y": y, "covariate": "", "method": "pearson"}
        row |= account(models, models["seed"].isin(whole.index).to_numpy()) | {"n": len(whole)}
        yield row | _mean_over_settings(whole[x].to_numpy().T, whole[y].to_numpy().T, settings)


def _mean_over_settings(a: np.ndarray, b: np.ndarray, settings: Statistics) -> dict[str, float]:
    """Mean r of quantities (settings, seeds), with the interval and p-values over seeds."""
    seeds = np.arange(a.shape[1])
    interval = jackknife_interval(
        lambda kept: float(pearson(a[:, kept], b[:, kept]).mean()),
        seeds,
        confidence=settings.confidence,
    )
    exchanged = permutation_p(
        lambda orders: pearson(a[:, None, :], b[:, orders]).mean(axis=0),
        seeds,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    estimate = float(pearson(a, b).mean())
    return {"estimate": estimate, **vars(interval), "p_permutation": exchanged}


def account(models: pd.DataFrame, used: np.ndarray) -> dict[str, Any]:
    """The columns `interpolating`, `excluded` and `reasons`.

    Args:
        models: one row per model.
        used: (n,), which of them are used.

    Returns:
        How many of those used interpolate; how many others there are, and why.
    """
    return {"interpolating": int(models[used]["interpolated"].sum())} | excluded(models[~used])


def _pearson(models: pd.DataFrame, x: str, y: str) -> float:
    """Pearson's r; NaN for fewer than three models, or where a quantity does not vary."""
    if len(models) < MINIMUM_MODELS:
        return np.nan
    return float(pearson(models[x].to_numpy(), models[y].to_numpy()))


def over_checkpoints(table: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Whether compression follows sharpness along training.

    Checkpoints of one run depend on each other, and runs of one seed share initial weights. So each
    run gives one coefficient, each seed the mean over its runs, and the interval and p-values are
    over seeds.

    Args:
        table: rows with derived columns; runs measured along training, at 4 checkpoints at least,
            are used.
        settings: of the resampling.

    Yields:
        Columns of `FamilyCorrelation`: sharpness with each measure of compression, alone and with
        the training loss held fixed; nothing where no run was measured along training.
    """
    for sampled in ("train", "test"):
        part = along_training(table[table["sampled"] == sampled])
        runs = [run for _, run in part.groupby(["setting", "seed"]) if len(run) >= 4]
        if runs:
            for row in _over_runs(runs, settings):
                yield row | {"sampled": sampled}


def _over_runs(runs: list[pd.DataFrame], settings: Statistics) -> Iterator[dict[str, Any]]:
    """The correlations along runs that were measured on one kind of image."""
    for y in COMPRESSION:
        for covariate in ("", "train_loss"):
            names = ["root_sharpness", y, "train_loss"]
            whole = [run for run in runs if np.isfinite(run[names]).all(axis=None)]
            found = [_along(run, y, covariate) for run in whole]
            used = [run for run, r in zip(whole, found, strict=True) if np.isfinite(r)]
            left_out = [run.iloc[[-1]] for run in runs if not any(run is other for other in used)]
            row = {"over": "checkpoints", "x": "root_sharpness", "y": y}
            row |= {"covariate": covariate, "method": "spearman"}
            row["interpolating"] = sum(bool(run["interpolated"].iloc[-1]) for run in used)
            row |= excluded(pd.concat(left_out) if left_out else runs[0].iloc[:0])
            seeds = [run["seed"].iloc[0] for run in whole]
            means = pd.Series(found, dtype=float).groupby(seeds).mean().dropna().to_numpy()
            yield row | {"n": len(means)} | _mean_over_seeds(means, settings)


def _along(run: pd.DataFrame, y: str, covariate: str) -> float:
    """Spearman's (partial) correlation of √S and y over one run's checkpoints; NaN if constant."""
    a, b = run["root_sharpness"].to_numpy(), run[y].to_numpy()
    if covariate:
        a, b = held_fixed(a, b, run[covariate].to_numpy())
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(stats.pearsonr(a, b)[0] if covariate else stats.spearmanr(a, b)[0])


def _mean_over_seeds(values: np.ndarray, settings: Statistics) -> dict[str, float]:
    """Mean of the seeds' coefficients, its interval on Fisher's z, and a sign-flip test."""
    if not len(values):
        return UNDEFINED
    mean = {"estimate": float(values.mean())}
    if len(values) < 2 or np.ptp(values) == 0:
        return UNDEFINED | mean
    interval = jackknife_interval(
        lambda kept: float(values[kept].mean()),
        np.arange(len(values)),
        confidence=settings.confidence,
    )
    flips = sign_flip_p(values, resamples=settings.resamples, seed=settings.seed)
    return mean | vars(interval) | {"p_permutation": flips}


def excluded(left_out: pd.DataFrame) -> dict[str, Any]:
    """The columns `excluded` and `reasons`.

    Args:
        left_out: rows of the models or runs that are not used.

    Returns:
        How many, and why, with counts.
    """
    unnamed = "a quantity, of it or of its group, is not finite or does not vary"
    reasons = left_out["reason"].replace("", unnamed)
    counts = reasons.value_counts()
    text = "; ".join(f"{count} × {reason}" for reason, count in counts.items())
    return {"excluded": len(left_out), "reasons": text}
