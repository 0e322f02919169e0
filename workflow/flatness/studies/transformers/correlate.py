"""Correlates normalized MLS, adaptive sharpness and test loss, and finds outliers."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from scipy import stats

from flatness.records.derived import derived_from
from flatness.records.tables import read_tables, write_table
from flatness.statistics.correlations import MINIMUM_MODELS, Correlation, correlate
from flatness.statistics.settings import Statistics
from flatness.studies.transformers.rows import MeasuredVit, PlacedVit, VitCorrelation

#: Estimator to the suffix of its columns.
ESTIMATORS = {"exact": "", "released": "_released"}
PAIRS = (
    ("nmls", "adaptive_sharpness"),
    ("adaptive_sharpness", "test_loss"),
    ("nmls", "test_loss"),
)
METHODS = ("pearson", "pearson of logarithms", "kendall")
OUTLYING = 3.5  # the customary limit of a robust score


def correlate_models(
    statistics: Annotated[str, typer.Option(help="resampling settings, as JSON")],
    measurements: Annotated[list[Path], typer.Option(help="measurement tables, one a block")],
    models: Annotated[Path, typer.Option(help="table of models and outliers to write")],
    output: Annotated[Path, typer.Option(help="table of correlations to write")],
) -> None:
    """Correlates both quantities with each other and with test loss, over all and by family."""
    settings = Statistics.model_validate_json(statistics)
    measured = read_tables(measurements, MeasuredVit)
    placed = pd.concat([place_models(measured, name) for name in ESTIMATORS], ignore_index=True)
    source = derived_from(measured, statistics=settings.model_dump())
    rows = [
        VitCorrelation(
            estimator=estimator,
            x=x,
            y=y,
            group=group,
            demo=bool(measured["demo"].any()),
            method=method,
            **found.columns(),
            confidence=settings.confidence,
            n=found.n,
            excluded=int((~points["used"]).sum()),
            **source,
        )
        for estimator, group, points in _groups(placed)
        for x, y in PAIRS
        for method in METHODS
        for found in [correlate_pair(points[points["used"]], x, y, method, settings)]
    ]
    write_table(models, [PlacedVit(**line) for line in placed.to_dict("records")])
    write_table(output, rows)


def _groups(placed: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """All models, then each family, of each estimator."""
    for estimator, points in placed.groupby("estimator", sort=False):
        yield estimator, "all", points
        for family, members in points.groupby("family"):
            yield estimator, family, members


def correlate_pair(
    points: pd.DataFrame, x: str, y: str, method: str, settings: Statistics
) -> Correlation:
    """Correlates two columns.

    Args:
        points: models to use; both columns positive.
        x: first column.
        y: second column.
        method: one of `METHODS`.
        settings: resampling.

    Returns:
        The coefficient with interval and p-values.
    """
    values = points[[x, y]].to_numpy()
    if method == "pearson of logarithms":
        values = np.log(values)
    kind = method.split()[0]
    return correlate(values[:, 0], values[:, 1], method=kind, **settings.model_dump())


def place_models(measured: pd.DataFrame, estimator: str) -> pd.DataFrame:
    """Puts every model into the plane of figure 4 and says which are used and which stand out.

    Args:
        measured: rows of `MeasuredVit`.
        estimator: a key of `ESTIMATORS`.

    Returns:
        Columns of `PlacedVit`; in the order measured; a model is never dropped.
    """
    suffix = ESTIMATORS[estimator]
    placed = measured[["model", "family", "dataset", "demo", "pretrained", "test_loss"]].copy()
    for name in ("nmls", "adaptive_sharpness"):
        placed[name] = measured[name + suffix]
        placed[f"{name}_se"] = measured[f"{name}{suffix}_se"]
    placed["estimator"] = estimator
    placed["reason"] = [_reason_left_out(row, suffix) for row in measured.to_dict("records")]
    placed["used"] = placed["reason"] == ""
    placed["score"] = robust_scores(placed)
    placed["outlier"] = placed["score"].abs() > OUTLYING
    placed["corner"] = np.select(
        [placed["outlier"] & (placed["score"] > 0), placed["outlier"]],
        ["upper left", "lower right"],
        default="",
    )
    placed["cluster"] = _in_cluster(placed)
    return placed[list(PlacedVit.model_fields)]


def _reason_left_out(row: dict, suffix: str) -> str:
    sharpness, nmls = row[f"adaptive_sharpness{suffix}"], row[f"nmls{suffix}"]
    if row["reason"]:
        return row["reason"]
    if row["untrained"]:
        return f"untrained: test accuracy {row['test_accuracy']:.0%}"
    if not row[f"reliable{suffix}"]:
        errors = (
            row[f"nmls{suffix}_se"] / abs(nmls) if nmls else math.inf,
            row[f"adaptive_sharpness{suffix}_se"] / abs(sharpness) if sharpness else math.inf,
        )
        return "standard error {:.0%} of normalized MLS, {:.0%} of adaptive sharpness".format(
            *errors
        )
    return "" if sharpness > 0 else "adaptive sharpness is negative: no logarithm"


def robust_scores(placed: pd.DataFrame) -> pd.Series:
    """Distance of each used model from a robust line, log sharpness on log NMLS.

    The line is Theil and Sen's, the unit the median absolute deviation scaled to a normal
    distribution's standard deviation, so that a cluster of outliers moves neither.

    Args:
        placed: with columns nmls, adaptive_sharpness, used.

    Returns:
        Scores in the order of `placed`; NaN where not used or with fewer than 3 models.
    """
    used = placed[placed["used"]]
    if len(used) < MINIMUM_MODELS:
        return pd.Series(math.nan, index=placed.index)
    x, y = np.log(used["nmls"]), np.log(used["adaptive_sharpness"])
    slope, intercept, *_ = stats.theilslopes(y, x)
    rest = y - (intercept + slope * x)
    spread = stats.median_abs_deviation(rest, scale="normal")
    centred = rest - rest.median()
    # Models on one line have no spread: nothing stands out.
    return (centred / spread if spread > 0 else centred * 0).reindex(placed.index)


def _in_cluster(placed: pd.DataFrame) -> pd.Series:
    """Outliers with a relative: two or more of their family in the same corner."""
    together = placed[placed["outlier"]].groupby(["family", "corner"])["model"].transform("count")
    return (together >= 2).reindex(placed.index, fill_value=False)
