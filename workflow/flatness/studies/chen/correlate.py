"""Correlations of the compression study over models and along training; tightness of bounds."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from flatness.records.derived import derived_from
from flatness.records.tables import read_tables, write_table
from flatness.statistics.correlations import correlate
from flatness.statistics.settings import Statistics
from flatness.studies.chen.inequalities import tightness
from flatness.studies.chen.matched import END, MATCHED, at_loss, at_name
from flatness.studies.chen.measured_rows import (
    BoundTightness,
    FamilyCorrelation,
    MeasuredCheckpoint,
)
from flatness.studies.chen.quantities import (
    SCATTER_LABELS,
    last_on_train,
    steps_behind,
    with_derived,
)
from flatness.studies.chen.within_groups import (
    WITHIN_PAIRS,
    among_seeds,
    among_settings,
    excluded,
    over_checkpoints,
)

METHODS = ("pearson", "spearman", "kendall")

#: Pairs over models beyond those of the scatter matrix.
FURTHER_PAIRS = (
    ("mls", "bound_b_released"),
    ("mls", "bound_c_released"),
    ("mls", "average_case_sharpness"),
    ("nmls", "average_case_sharpness"),
    ("root_sharpness", "average_case_sharpness"),
    ("accuracy_gap", "average_case_sharpness"),
    ("sharpness", "hessian_trace"),
    ("mls", "test_loss"),
    ("root_sharpness", "test_loss"),
)


def correlate_family(
    statistics: Annotated[str, typer.Option(help="resampling settings, as JSON")],
    measurements: Annotated[list[Path], typer.Option(help="measurement tables, one a block")],
    checkpoints: Annotated[Path, typer.Option(help="table of all checkpoints to write")],
    correlations: Annotated[Path, typer.Option(help="table of correlations to write")],
    bounds: Annotated[Path, typer.Option(help="table of bounds against values to write")],
) -> None:
    """Joins a family's measurements into one table, and correlates and compares its columns."""
    settings = Statistics.model_validate_json(statistics)
    measured = read_tables(measurements, MeasuredCheckpoint).sort_values(
        ["setting", "seed", "step", "sampled"], ignore_index=True
    )
    common = {name: measured[name].iloc[0] for name in ("family", "dataset", "demo")}
    common |= derived_from(measured, statistics=settings.model_dump())
    table = with_derived(measured)
    shared = {"train_size": measured["train_size"].iloc[0], "confidence": settings.confidence}
    rows = [
        FamilyCorrelation(**common, **shared, **row) for row in family_correlations(table, settings)
    ]
    write_table(checkpoints, [MeasuredCheckpoint(**row) for row in measured.to_dict("records")])
    write_table(correlations, rows)
    write_table(bounds, [BoundTightness(**common, **row) for row in tightness(table)])


def family_correlations(table: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """All correlations of one family.

    Args:
        table: rows of `MeasuredCheckpoint` with derived columns.
        settings: of intervals and permutations.

    Yields:
        Columns of `FamilyCorrelation`: over models at the end of training; for `WITHIN_PAIRS`
        also at a matched training loss, within seeds and within settings; and along training.
    """
    models, matched = last_on_train(table), at_loss(table, MATCHED)
    for row in over_models(models, settings):
        yield row | {"at": END, "sampled": "train", "steps": steps_behind(models)}
    for at, part in ((END, models), (at_name(MATCHED), matched)):
        place = {"at": at, "sampled": "train", "steps": steps_behind(part)}
        if at != END and len(part):
            for x, y in WITHIN_PAIRS:
                yield _over(part, x, y, "pearson", settings) | place
        for row in (*among_settings(part, settings), *among_seeds(part, settings)):
            yield row | place
    for row in over_checkpoints(table, settings):
        yield row | {"at": "along training", "steps": steps_behind(table)}


def over_models(models: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Correlations over models.

    Args:
        models: one row per model, with derived columns.
        settings: of intervals and permutations.

    Yields:
        Columns of `FamilyCorrelation`: each pair of the scatter matrix and `FURTHER_PAIRS` with
        every method.
    """
    for x, y in (*combinations(SCATTER_LABELS, 2), *FURTHER_PAIRS):
        for method in METHODS:
            yield _over(models, x, y, method, settings)


def _over(
    models: pd.DataFrame, x: str, y: str, method: str, settings: Statistics
) -> dict[str, Any]:
    """One correlation over models, grouped by seed: these share initial weights and data order."""
    finite = np.isfinite(models[[x, y]]).all(axis=1)
    used = models[finite]
    row = {"over": "models", "x": x, "y": y, "covariate": "", "method": method}
    row |= {"n": len(used), "interpolating": int(used["interpolated"].sum())}
    row |= excluded(models[~finite])
    found = correlate(used[x], used[y], method=method, groups=used["seed"], **settings.model_dump())
    return row | found.columns()
