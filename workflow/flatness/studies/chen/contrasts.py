"""Comparisons within a family that no single correlation shows, each with its interval."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from flatness.records.derived import derived_from
from flatness.records.tables import Provenance, column, read_table, write_table
from flatness.statistics.correlations import (
    MINIMUM_MODELS,
    bootstrap_interval,
    mean_interval,
    pearson,
)
from flatness.statistics.settings import Statistics
from flatness.studies.chen.measured_rows import MeasuredCheckpoint
from flatness.studies.chen.quantities import CHAIN_LABELS, last_on_train, with_derived


class Contrast(Provenance):
    """One quantity of a family less another."""

    family: str = column("family of models, as in the config")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data set is a stand-in made for the demo")
    contrast: str = column(
        "c_to_d_gap: log10(D/C) less the larger of log10(B/A) and log10(C/B), mean over the "
        "checkpoints of each run, over the runs of each seed, then over seeds; "
        "mls_over_dimensionality: |r(√S, MLS)| less |r(√S, local dimensionality)| over models at "
        "the end of training, Pearson's r"
    )
    estimate: float = column("the difference; nan below 3 models")
    low: float = column("lower end of its interval: t over seeds, paired bootstrap over seeds")
    high: float = column("upper end")
    confidence: float = column("level of the interval")
    n: int = column("seeds (c_to_d_gap) or models (mls_over_dimensionality) behind it")
    excluded: int = column("runs or models left out because a quantity is not finite")


def contrast_family(
    statistics: Annotated[str, typer.Option(help="resampling settings, as JSON")],
    checkpoints: Annotated[Path, typer.Option(help="table of all checkpoints of the family")],
    output: Annotated[Path, typer.Option(help="table of contrasts to write")],
) -> None:
    """Compares a family's gaps between bounds, and its correlations with sharpness."""
    settings = Statistics.model_validate_json(statistics)
    measured = read_table(checkpoints, MeasuredCheckpoint)
    common = {name: measured[name].iloc[0] for name in ("family", "dataset", "demo")}
    common |= derived_from(measured, statistics=settings.model_dump())
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
    means = used.groupby("seed").mean().to_numpy()
    low, high = mean_interval(means, settings.confidence)
    counts = {"n": len(means), "excluded": len(excess) - len(used)}
    estimate = float(means.mean()) if len(means) else np.nan
    yield {"contrast": "c_to_d_gap", **counts, "estimate": estimate, "low": low, "high": high}

    models = last_on_train(table)
    columns = models[["root_sharpness", "mls", "local_dimensionality"]]
    finite = np.isfinite(columns).all(axis=1)
    counts = {"n": int(finite.sum()), "excluded": int((~finite).sum())}
    difference = difference_of_correlations(
        *columns[finite].to_numpy().T, models["seed"][finite].to_numpy(), settings
    )
    yield {"contrast": "mls_over_dimensionality", **counts, **difference}


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


def difference_of_correlations(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, groups: np.ndarray, settings: Statistics
) -> dict[str, float]:
    """|r(x, y)| − |r(x, z)| with a percentile interval over paired resamples of groups.

    Args:
        x: (n,), one value a model.
        y: (n,).
        z: (n,).
        groups: (n,), equal for models that are not independent.
        settings: of the resampling.

    Returns:
        Estimate, low and high; all NaN below 3 models or where a variable is constant.
    """
    if len(x) < MINIMUM_MODELS or min(np.ptp(x), np.ptp(y), np.ptp(z)) == 0:
        return dict.fromkeys(("estimate", "low", "high"), np.nan)

    def difference(models: np.ndarray) -> np.ndarray:
        return np.abs(pearson(x[models], y[models])) - np.abs(pearson(x[models], z[models]))

    low, high = bootstrap_interval(difference, groups, **settings.model_dump())
    return {"estimate": float(difference(np.arange(len(x)))), "low": low, "high": high}
