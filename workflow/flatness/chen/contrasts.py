"""Comparisons within a family that no single correlation shows, each with its interval."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from scipy import stats

from flatness.chen.measured_rows import MeasuredCheckpoint
from flatness.chen.quantities import CHAIN_LABELS, last_on_train, with_derived
from flatness.config import Statistics
from flatness.frozen import canonical_json, content_hash
from flatness.statistics import MINIMUM_MODELS
from flatness.tables import Provenance, column, provenance, read_table, write_table


class Contrast(Provenance):
    """One quantity of a family less another."""

    family: str = column("family of models, as in the config")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data set is a stand-in made for the demo")
    contrast: str = column(
        "c_to_d_gap: log10(D/C) less the larger of log10(B/A) and log10(C/B), mean over the "
        "checkpoints of each run, then over runs; mls_over_dimensionality: |r(√S, MLS)| less "
        "|r(√S, local dimensionality)| over models at the end of training, Pearson's r"
    )
    estimate: float = column("the difference; nan below 3 runs or models")
    low: float = column("lower end of its interval: t over runs, paired bootstrap over models")
    high: float = column("upper end")
    confidence: float = column("level of the interval")
    n: int = column("runs or models behind it")
    excluded: int = column("runs or models left out because a quantity is not finite")


def contrast_family(
    statistics: Annotated[str, typer.Option(help="resampling settings, as JSON")],
    checkpoints: Annotated[Path, typer.Option(help="table of all checkpoints of the family")],
    output: Annotated[Path, typer.Option(help="table of contrasts to write")],
) -> None:
    """Compares a family's gaps between bounds, and its correlations with sharpness."""
    settings = Statistics.model_validate_json(statistics)
    measured = read_table(checkpoints, MeasuredCheckpoint)
    experiment = content_hash(
        {"statistics": canonical_json(settings), "rows": sorted(measured["experiment"].unique())}
    )
    common = {name: measured[name].iloc[0] for name in ("family", "dataset", "demo")}
    common |= provenance(experiment, device=measured["device"].iloc[0])
    found = contrasts(with_derived(measured), settings)
    write_table(
        output, [Contrast(**common, confidence=settings.confidence, **line) for line in found]
    )


def contrasts(table: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Both contrasts of one family.

    Args:
        table: rows of `MeasuredCheckpoint` with derived columns.
        settings: of the resampling.

    Yields:
        Columns of `Contrast`.
    """
    excess = gap_excess(table[table["sampled"] == "train"])
    used = excess[np.isfinite(excess)]
    counts = {"n": len(used), "excluded": len(excess) - len(used)}
    interval = mean_with_interval(used.to_numpy(), settings.confidence)
    yield {"contrast": "c_to_d_gap", **counts, **interval}

    models = last_on_train(table)[["root_sharpness", "mls", "local_dimensionality"]].to_numpy()
    finite = models[np.isfinite(models).all(axis=1)]
    counts = {"n": len(finite), "excluded": len(models) - len(finite)}
    interval = difference_of_correlations(*finite.T, settings)
    yield {"contrast": "mls_over_dimensionality", **counts, **interval}


def gap_excess(checkpoints: pd.DataFrame) -> pd.Series:
    """How much wider the gap C–D is than the others, in powers of ten.

    Args:
        checkpoints: rows of `MeasuredCheckpoint`.

    Returns:
        One value a run (setting and seed), the mean over its checkpoints; NaN if one is undefined.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b, c, d = (np.log10(checkpoints[name]) for name in list(CHAIN_LABELS)[:4])
        excess = (d - c) - np.maximum(b - a, c - b)
    runs = [checkpoints["setting"], checkpoints["seed"]]
    return excess.groupby(runs).agg(lambda values: values.mean(skipna=False))


def mean_with_interval(values: np.ndarray, confidence: float) -> dict[str, float]:
    """Mean and t interval; all NaN below 3 values."""
    if len(values) < MINIMUM_MODELS:
        return dict.fromkeys(("estimate", "low", "high"), np.nan)
    interval = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    return {
        "estimate": float(values.mean()),
        "low": float(interval.low),
        "high": float(interval.high),
    }


def difference_of_correlations(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, settings: Statistics
) -> dict[str, float]:
    """|r(x, y)| − |r(x, z)| with a percentile interval over paired resamples.

    Args:
        x: (n,), one value a model.
        y: (n,).
        z: (n,).
        settings: of the resampling.

    Returns:
        Estimate, low and high; all NaN below 3 models or where a variable is constant.
    """
    if len(x) < MINIMUM_MODELS or min(np.ptp(x), np.ptp(y), np.ptp(z)) == 0:
        return dict.fromkeys(("estimate", "low", "high"), np.nan)

    def statistic(x: np.ndarray, y: np.ndarray, z: np.ndarray, axis: int) -> np.ndarray:
        return np.abs(_pearson(x, y, axis)) - np.abs(_pearson(x, z, axis))

    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            (x, y, z),
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=settings.resamples,
            method="percentile",
            rng=np.random.default_rng(settings.seed),
        ).bootstrap_distribution
    tail = (1 - settings.confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return {"estimate": float(statistic(x, y, z, -1)), "low": float(low), "high": float(high)}


def _pearson(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    a, b = a - a.mean(axis, keepdims=True), b - b.mean(axis, keepdims=True)
    return (a * b).sum(axis) / np.sqrt((a * a).sum(axis) * (b * b).sum(axis))
