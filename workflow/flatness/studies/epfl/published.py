"""Published results of the EPFL pools: τ and p, numbers of the scatter plots, runs of the code."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from flatness.statistics.correlations import correlate
from flatness.statistics.settings import Statistics

FOLDER = Path(__file__).parent / "published"
#: Name of the source of values read off the published plots.
FIGURE = "published figure"
#: τ and p of the report, section IV and figure 1.
PUBLISHED = {"fcnn": (-0.311, 0.0014), "lenet5": (-0.180, 0.0645), "gat": (-0.185, 0.0576)}
#: Half a dot, as a share of the range of a plot's dots.
HALF_DOT = {"worst_case_sharpness": 0.012, "test_loss": 0.037}


@dataclass(frozen=True)
class SourceValue:
    """One number that a protocol as released should give.

    Attributes:
        source: its source.
        quantity: sharpness, sharpness_sd, test_loss, test_loss_sd, test_accuracy or tau.
        value: the number.
        error: its standard error; NaN where it is not known.
        models: number of models.
    """

    source: str
    quantity: str
    value: float
    error: float
    models: int


def scatter(pool: str) -> pd.DataFrame:
    """The published scatter of a pool, one row per dot: columns sharpness and test_loss."""
    return pd.read_csv(FOLDER / f"{pool}.csv")


def printed() -> pd.DataFrame:
    """The output of the FCNN's notebook, one row per model: columns train_loss and climbed_loss."""
    return pd.read_csv(FOLDER / "fcnn_printed.csv", index_col="model")


def reading_error(pool: str, column: str) -> float:
    """How far all dots of a plot may be misplaced together."""
    return HALF_DOT[column] * float(np.ptp(scatter(pool)[column]))


def published_interval(pool: str, settings: Statistics) -> tuple[float, float]:
    """Interval of the published τ over the dots of its plot, as for our models."""
    dots = scatter(pool)
    found = correlate(
        dots["worst_case_sharpness"], dots["test_loss"], method="kendall", **settings.model_dump()
    )
    return found.low, found.high


def source_values(pool: str, settings: Statistics) -> Iterator[SourceValue]:
    """All published numbers of a pool under the released protocol.

    Args:
        pool: fcnn, lenet5 or gat.
        settings: resampling of the published τ.

    Yields:
        Mean and spread of the published scatter plot, its τ, then results of the code when run
        again.
    """
    dots, source = scatter(pool), FIGURE
    for column in ("worst_case_sharpness", "test_loss"):
        (mean, error), (spread, spread_error) = mean_and_spread(dots[column])
        error = float(np.hypot(error, reading_error(pool, column)))
        yield SourceValue(source, column, mean, error, len(dots))
        yield SourceValue(source, f"{column}_sd", spread, spread_error, len(dots))
    error = interval_error(*published_interval(pool, settings), settings.confidence)
    yield SourceValue(source, "tau", PUBLISHED[pool][0], error, len(dots))
    again = pd.read_csv(FOLDER / "run_again.csv")
    for line in again[again["pool"] == pool].itertuples():
        yield SourceValue(line.run, line.quantity, line.value, line.error, line.models)


def mean_and_spread(values: pd.Series) -> tuple[tuple[float, float], tuple[float, float]]:
    """Mean and standard deviation over models, each with its standard error.

    Args:
        values: one per model.

    Returns:
        The mean with its error, and the deviation with that of the jackknife; NaN for too few.
    """
    count = len(values)
    without = pd.Series([values.drop(index).std() for index in values.index])
    error = float(np.sqrt((count - 1) ** 2 / count * without.var())) if count > 2 else np.nan
    return (float(values.mean()), float(values.sem())), (float(values.std()), error)


def interval_error(low: float, high: float, confidence: float) -> float:
    """The standard error that an interval of this level would have if it were normal."""
    return (high - low) / (2 * float(stats.norm.ppf((1 + confidence) / 2)))
