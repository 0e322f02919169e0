"""Correlates normalized MLS, average-case sharpness and test loss, and finds outliers."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from scipy import stats

from flatness.records.derived import derived_from
from flatness.records.tables import read_tables, write_table
from flatness.statistics.correlations import MINIMUM_MODELS, Correlation, correlate, mean_interval
from flatness.statistics.settings import Statistics
from flatness.studies.transformers.rows import (
    BETWEEN,
    WITHIN,
    MeasuredVit,
    PlacedVit,
    VitCorrelation,
)

#: Estimator to the suffix of its columns.
ESTIMATORS = {"exact": "", "released": "_released"}
PAIRS = (
    ("normalized_mls", "average_case_sharpness"),
    ("average_case_sharpness", "test_loss"),
    ("normalized_mls", "test_loss"),
)
METHODS = ("pearson", "pearson of logarithms", "kendall")
SCORE = "mean score"
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
            **line,
            dataset=measured["dataset"].iloc[0],
            demo=bool(measured["demo"].any()),
            confidence=settings.confidence,
            **source,
        )
        for line in vit_correlations(placed, settings)
    ]
    write_table(models, [PlacedVit(**line) for line in placed.to_dict("records")])
    write_table(output, rows)


def vit_correlations(placed: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Every correlation over all models, within and between families; every family's mean score.

    Args:
        placed: rows of `PlacedVit`.
        settings: of intervals and permutations.

    Yields:
        Columns of `VitCorrelation`.
    """
    for estimator, points in placed.groupby("estimator", sort=False):
        for family in ("all", *sorted(points["family"].unique())):
            members = points if family == "all" else points[points["family"] == family]
            used = members[members["used"]]
            counts = {"n": len(used), "excluded": len(members) - len(used)}
            place = {"estimator": estimator, "group": family, **counts}
            for x, y in PAIRS:
                for method in METHODS:
                    found = correlate_pair(used, x, y, method, settings)
                    yield place | {"x": x, "y": y, "method": method} | found.columns()
            if family != "all":
                x, y = PAIRS[0]
                yield place | {"x": x, "y": y, "method": SCORE} | mean_score(used, settings)
        for row in between_and_within(points[points["used"]], settings):
            yield {"estimator": estimator} | row


def between_and_within(used: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Tells whether a correlation over all models lies between families or inside them.

    Between: over the geometric means of families. Inside: the mean of the coefficients of families
    of at least 3 models, with a t interval over families. A family is one observation in both.

    Args:
        used: rows of `PlacedVit` that are used.
        settings: of intervals and permutations.

    Yields:
        Columns of `VitCorrelation`, but for the estimator.
    """
    names = sorted({name for pair in PAIRS for name in pair})
    means = np.exp(np.log(used[names]).groupby(used["family"]).mean()).assign(family=BETWEEN)
    members = [part for _, part in used.groupby("family") if len(part) >= MINIMUM_MODELS]
    for x, y in PAIRS:
        for method in METHODS:
            place = {"x": x, "y": y, "method": method}
            found = correlate_pair(means, x, y, method, settings)
            yield {"group": BETWEEN, "n": len(means), "excluded": 0} | place | found.columns()
            inside = [correlate_pair(part, x, y, method, settings).estimate for part in members]
            counts = {"n": len(inside), "excluded": len(means) - len(inside)}
            yield {"group": WITHIN} | counts | place | mean_of(np.array(inside), settings)


def correlate_pair(
    points: pd.DataFrame, x: str, y: str, method: str, settings: Statistics
) -> Correlation:
    """Correlates two columns; models of one family share a design and are not independent.

    Args:
        points: models to use, of several families or of one; both columns positive.
        x: first column.
        y: second column.
        method: one of `METHODS`.
        settings: of intervals and permutations.

    Returns:
        The coefficient with interval and p-values.
    """
    values = points[[x, y]].to_numpy()
    if method == "pearson of logarithms":
        values = np.log(values)
    return correlate(
        values[:, 0],
        values[:, 1],
        method=method.split()[0],
        groups=points["family"] if points["family"].nunique() > 1 else None,
        **settings.model_dump(),
    )


def mean_score(points: pd.DataFrame, settings: Statistics) -> dict[str, float]:
    """The position of a family above or below the common line, with a t interval over its models.

    Args:
        points: its models; rows of `PlacedVit` that are used.
        settings: of the interval.

    Returns:
        Columns of `VitCorrelation`; NaN without a model, no interval for one.
    """
    return mean_of(points["score"].to_numpy(), settings)


def mean_of(values: np.ndarray, settings: Statistics) -> dict[str, float]:
    """A mean with its t interval, (n,), as columns of `VitCorrelation`; NaN where n is 0."""
    estimate = float(values.mean()) if len(values) else math.nan
    interval = vars(mean_interval(values, settings.confidence))
    return {"estimate": estimate, **interval, "p_permutation": math.nan}


def place_models(measured: pd.DataFrame, estimator: str) -> pd.DataFrame:
    """Places every model in the plane of figure 4; marks models that are used, and outliers.

    Args:
        measured: rows of `MeasuredVit`.
        estimator: a key of `ESTIMATORS`.

    Returns:
        Columns of `PlacedVit`; in the order measured; a model is never dropped.
    """
    suffix = ESTIMATORS[estimator]
    placed = measured[["model", "family", "dataset", "demo", "pretrained", "test_loss"]].copy()
    for name in ("normalized_mls", "average_case_sharpness"):
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
    sharpness, normalized_mls = (
        row[f"average_case_sharpness{suffix}"],
        row[f"normalized_mls{suffix}"],
    )
    if row["reason"]:
        return row["reason"]
    if row["untrained"]:
        return f"untrained: test accuracy {row['test_accuracy']:.0%}"
    if not row[f"reliable{suffix}"]:
        errors = (
            row[f"normalized_mls{suffix}_se"] / abs(normalized_mls) if normalized_mls else math.inf,
            row[f"average_case_sharpness{suffix}_se"] / abs(sharpness) if sharpness else math.inf,
        )
        return "standard error {:.0%} of normalized MLS, {:.0%} of adaptive sharpness".format(
            *errors
        )
    return "" if sharpness > 0 else "adaptive sharpness is negative: no logarithm"


def robust_scores(placed: pd.DataFrame) -> pd.Series:
    """Distance of each used model from a robust line, log sharpness on log normalized MLS.

    The line is Theil and Sen's. The unit is the median absolute deviation, scaled to a normal
    distribution's standard deviation. A cluster of outliers affects neither.

    Args:
        placed: with columns normalized_mls, average_case_sharpness, used.

    Returns:
        Scores in the order of `placed`; NaN for models not used, or with fewer than 3 models.
    """
    used = placed[placed["used"]]
    if len(used) < MINIMUM_MODELS:
        return pd.Series(math.nan, index=placed.index)
    x, y = np.log(used["normalized_mls"]), np.log(used["average_case_sharpness"])
    slope, intercept, *_ = stats.theilslopes(y, x)
    rest = y - (intercept + slope * x)
    spread = stats.median_abs_deviation(rest, scale="normal")
    centred = rest - rest.median()
    # Models on one line have no spread, so there are no outliers.
    return (centred / spread if spread > 0 else centred * 0).reindex(placed.index)


def _in_cluster(placed: pd.DataFrame) -> pd.Series:
    """Outliers in clusters: two or more of one family in the same corner."""
    together = placed[placed["outlier"]].groupby(["family", "corner"])["model"].transform("count")
    return (together >= 2).reindex(placed.index, fill_value=False)
