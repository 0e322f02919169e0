"""Scale curves: how a correlation over models depends on the number of training images.

The same seeds and settings are trained on each number of images. Only models with finite values for
every number count, so that a change between sizes is not a change of models.

The rules of the verdict were fixed before the tables of config/scale.yaml were made. For a
correlation that is positive according to the paper:

* *artefact of small scale*: on the most images it is positive (its interval lies above 0), and it
  is larger than on the fewest (the interval of the paired change lies above 0). Contrary results
  of smaller runs are then due to their size;
* *reproduced*: it is positive on the most images, and no rise was shown;
* *not reproduced*: its interval on the most images lies below +0.2;
* *inconclusive*: all other cases.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from flatness.errors import DataError
from flatness.records.derived import derived_from
from flatness.records.tables import Provenance, column, read_table, write_table
from flatness.statistics.correlations import (
    MINIMUM_MODELS,
    NO_INTERVAL,
    Interval,
    jackknife_interval,
    pearson,
)
from flatness.statistics.settings import Statistics
from flatness.studies import words
from flatness.studies.chen.matched import compared_at
from flatness.studies.chen.measured_rows import MeasuredCheckpoint
from flatness.studies.chen.quantities import steps_behind, with_derived
from flatness.studies.chen.within_groups import WITHIN_PAIRS

#: The largest correlation that counts as no correlation.
NEGLIGIBLE = 0.2
#: Pairs that rise together according to the paper: sharpness and compression, measures and bounds.
CLAIMED = tuple(pair for pair in WITHIN_PAIRS if "local_dimensionality" not in pair)


class ScaleCorrelation(Provenance):
    """One correlation over models that were trained on one number of images."""

    scale: str = column("families that are compared, by the name of the config")
    family: str = column("family of models", convention="as in the config")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    train_size: int = column("training images")
    steps: int = column(words.STEPS, unit="steps")
    at: str = column(
        "where models are compared: end of training (equal steps), or at a training loss, to which "
        "each model's checkpoints are interpolated; over checkpoints: along training"
    )
    x: str = column("one quantity of a pair")
    y: str = column("which quantity; of a pair the other one")
    estimate: float = column(
        "what was found: a coefficient, a difference, a change or a count; nan where there is none",
        convention="Pearson's r over models",
    )
    low: float = column(
        "lower end of the estimate's interval", convention="jackknife-t over seeds on Fisher's z"
    )
    high: float = column("upper end")
    confidence: float = column("level of the intervals")
    change: float = column("the estimate less that on the fewest images; nan there")
    change_low: float = column(
        "lower end of the change's interval", convention="jackknife-t over seeds, paired"
    )
    change_high: float = column("upper end of the change's interval")
    n: int = column("how many are behind the row", convention="models, the same for every size")
    excluded: int = column("how many were left out", convention="models without values somewhere")
    effect_of_scale: str = column(
        "on the most images: artefact of small scale, reproduced, not reproduced or inconclusive; "
        "empty elsewhere and for pairs of which the paper says nothing"
    )


def compare_scales(
    statistics: Annotated[str, typer.Option(help="resampling settings, as JSON")],
    scale: Annotated[str, typer.Option(help="name of the comparison")],
    checkpoints: Annotated[list[Path], typer.Option(help="tables of checkpoints, one a family")],
    output: Annotated[Path, typer.Option(help="table of correlations to write")],
) -> None:
    """Correlates the same models' quantities on every number of training images."""
    settings = Statistics.model_validate_json(statistics)
    tables = [read_table(path, MeasuredCheckpoint) for path in checkpoints]
    made = derived_from(*tables, statistics=settings.model_dump())
    families = {int(table["train_size"].iloc[0]): with_derived(table) for table in tables}
    if len(families) < len(tables):
        raise DataError(f"scale {scale}: two families have equally many training images")
    rows = [
        ScaleCorrelation(scale=scale, confidence=settings.confidence, **made, **row)
        for row in scale_correlations(families, settings.confidence)
    ]
    write_table(output, rows)


def scale_correlations(
    families: Mapping[int, pd.DataFrame], confidence: float
) -> Iterator[dict[str, Any]]:
    """All correlations of families that differ in the number of training images alone.

    Args:
        families: by training images, rows of `MeasuredCheckpoint` with derived columns.
        confidence: level of the intervals.

    Yields:
        Columns of `ScaleCorrelation`, from the fewest images to the most.
    """
    sizes = sorted(families)
    compared = {size: compared_at(families[size]) for size in sizes}
    for at in compared[sizes[0]]:
        models = {size: compared[size][at].set_index(["setting", "seed"]) for size in sizes}
        for x, y in WITHIN_PAIRS:
            yield from _along_sizes(models, x, y, confidence, at, families)


def _along_sizes(
    models: Mapping[int, pd.DataFrame],
    x: str,
    y: str,
    confidence: float,
    at: str,
    families: Mapping[int, pd.DataFrame],
) -> Iterator[dict[str, Any]]:
    """One pair of quantities at one place, on every number of images."""
    finite = [part.index[np.isfinite(part[[x, y]]).all(axis=1)] for part in models.values()]
    kept = finite[0]
    for index in finite[1:]:
        kept = kept.intersection(index)
    every = set().union(*(part.index for part in models.values()))
    seeds = kept.get_level_values("seed").to_numpy()
    values = {size: part.loc[kept, [x, y]].to_numpy().T for size, part in models.items()}
    fewest, most = min(models), max(models)
    for size in models:
        own, change = _correlation(values[size], seeds, confidence), NO_CHANGE
        if size != fewest:
            change = _change(values[fewest], values[size], seeds, confidence)
        claimed = size == most and (x, y) in CLAIMED
        rows = families[size]
        yield {
            **{name: rows[name].iloc[0] for name in ("family", "dataset", "demo")},
            **{"train_size": size, "steps": steps_behind(models[size]), "at": at, "x": x, "y": y},
            **{"estimate": own[0], "low": own[1].low, "high": own[1].high},
            **{"change": change[0], "change_low": change[1].low, "change_high": change[1].high},
            **{"n": len(kept), "excluded": len(every) - len(kept)},
            "effect_of_scale": verdict(own[1], change[1]) if claimed else "",
        }


#: An estimate and its interval.
Found = tuple[float, Interval]
NO_CHANGE: Found = (float("nan"), NO_INTERVAL)


def _correlation(values: np.ndarray, seeds: np.ndarray, confidence: float) -> Found:
    """Pearson's r of two quantities (2, n), with its interval over seeds."""
    if values.shape[1] < MINIMUM_MODELS:
        return NO_CHANGE
    interval = jackknife_interval(
        lambda kept: float(pearson(*values[:, kept])), seeds, confidence=confidence
    )
    return float(pearson(*values)), interval


def _change(few: np.ndarray, many: np.ndarray, seeds: np.ndarray, confidence: float) -> Found:
    """The change of r from few images to many, same models (2, n), with its interval over seeds."""
    if few.shape[1] < MINIMUM_MODELS:
        return NO_CHANGE

    def difference(kept: np.ndarray) -> float:
        return float(pearson(*many[:, kept]) - pearson(*few[:, kept]))

    interval = jackknife_interval(difference, seeds, confidence=confidence, scale="plain")
    return difference(np.arange(len(seeds))), interval


def verdict(most: Interval, change: Interval) -> str:
    """The verdict of the rules above on a correlation that is positive in the paper.

    Args:
        most: interval of the correlation on the most images.
        change: interval of the paired change from the fewest.

    Returns:
        One of the four verdicts.
    """
    if most.low > 0:
        return "artefact of small scale" if change.low > 0 else "reproduced"
    return "not reproduced" if most.high < NEGLIGIBLE else "inconclusive"
