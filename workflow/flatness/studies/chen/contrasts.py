"""Comparisons within a family that a single correlation cannot show, with intervals."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from flatness.records.derived import derived_from
from flatness.records.tables import Row, read_table, write_table
from flatness.statistics.correlations import (
    MINIMUM_MODELS,
    NO_INTERVAL,
    jackknife_interval,
    mean_interval,
    pearson,
)
from flatness.statistics.settings import Statistics
from flatness.studies.chen.after_interpolation import interpolated_changes
from flatness.studies.chen.effects import factor_effects
from flatness.studies.chen.measured_rows import (
    Contrast,
    FactorEffect,
    InterpolatedChange,
    MeasuredCheckpoint,
)
from flatness.studies.chen.quantities import (
    CHAIN_LABELS,
    last_on_train,
    steps_behind,
    with_derived,
)


def contrast_family(
    statistics: Annotated[str, typer.Option(help="settings of intervals, as JSON")],
    checkpoints: Annotated[Path, typer.Option(help="table of all checkpoints of the family")],
    output: Annotated[Path, typer.Option(help="table of contrasts to write")],
    effects: Annotated[Path, typer.Option(help="table of what settings do, to write")],
    changes: Annotated[Path, typer.Option(help="table of changes after interpolation, to write")],
) -> None:
    """Compares a family's bounds, correlations, settings and changes after interpolation."""
    settings = Statistics.model_validate_json(statistics)
    measured = read_table(checkpoints, MeasuredCheckpoint)
    table = with_derived(measured)
    common = {name: measured[name].iloc[0] for name in ("family", "dataset", "demo", "train_size")}
    common["confidence"] = settings.confidence
    common |= derived_from(measured, statistics=settings.model_dump())
    found: dict[Path, tuple[type[Row], Iterator[dict[str, Any]]]] = {
        output: (Contrast, contrasts(table, settings)),
        effects: (FactorEffect, factor_effects(table, settings)),
        changes: (InterpolatedChange, interpolated_changes(table, settings)),
    }
    for path, (kind, lines) in found.items():
        write_table(path, [kind(**common, **line) for line in lines], kind)


def contrasts(table: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """All contrasts of one family.

    Args:
        table: rows of `MeasuredCheckpoint` with derived columns.
        settings: of the intervals.

    Yields:
        Columns of `Contrast`.
    """
    train = table[table["sampled"] == "train"]
    for name, excess in (
        ("c_to_d_gap", gap_excess(train)),
        ("c_to_d_difference", gap_excess(train, ratios=False)),
    ):
        used = excess[np.isfinite(excess)]
        means = used.groupby("seed").mean().to_numpy()
        interval = mean_interval(means, settings.confidence)
        counts = {"n": len(means), "excluded": len(excess) - len(used)}
        estimate = float(means.mean()) if len(means) else np.nan
        place = {"contrast": name, "steps": steps_behind(train)}
        yield place | counts | {"estimate": estimate} | vars(interval)

    models = last_on_train(table)
    columns = models[["root_sharpness", "mls", "local_dimensionality"]]
    finite = np.isfinite(columns).all(axis=1)
    counts = {"n": int(finite.sum()), "excluded": int((~finite).sum())}
    difference = difference_of_correlations(
        *columns[finite].to_numpy().T, models["seed"][finite].to_numpy(), settings
    )
    place = {"contrast": "mls_over_dimensionality", "steps": steps_behind(models)}
    yield place | counts | difference


def gap_excess(checkpoints: pd.DataFrame, *, ratios: bool = True) -> pd.Series:
    """How much larger the gap C–D is than the other gaps.

    Args:
        checkpoints: rows of `MeasuredCheckpoint`.
        ratios: whether a gap is a ratio, in powers of ten; else a difference, in units of A.

    Returns:
        One value per run (setting and seed), the mean over its checkpoints; NaN if one is
        undefined.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        chain = checkpoints[list(CHAIN_LABELS)[:4]]
        chain = np.log10(chain) if ratios else chain.div(chain["mls"], axis=0)
        a, b, c, d = (chain[name] for name in chain)
        excess = (d - c) - np.maximum(b - a, c - b)
    runs = [checkpoints["setting"], checkpoints["seed"]]
    return excess.groupby(runs).agg(lambda values: values.mean(skipna=False))


def difference_of_correlations(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, groups: np.ndarray, settings: Statistics
) -> dict[str, float]:
    """|r(x, y)| − |r(x, z)| with its jackknife-t interval over groups.

    Args:
        x: (n,), one value per model.
        y: (n,).
        z: (n,).
        groups: (n,), equal for models that are not independent.
        settings: of the interval.

    Returns:
        Estimate, low, high and p-value; all NaN below 3 models or where a variable is constant.
    """
    if len(x) < MINIMUM_MODELS or min(np.ptp(x), np.ptp(y), np.ptp(z)) == 0:
        return {"estimate": np.nan, **vars(NO_INTERVAL)}

    def difference(kept: np.ndarray) -> float:
        sizes = [abs(pearson(x[kept], other[kept])) for other in (y, z)]
        return float(sizes[0] - sizes[1])

    interval = jackknife_interval(difference, groups, confidence=settings.confidence, scale="plain")
    return {"estimate": difference(np.arange(len(x))), **vars(interval)}
