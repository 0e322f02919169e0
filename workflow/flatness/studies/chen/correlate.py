"""Correlations of the compression study: over models, along training, and how tight bounds are."""

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
from flatness.studies.chen.measured_rows import (
    BoundTightness,
    FamilyCorrelation,
    MeasuredCheckpoint,
)
from flatness.studies.chen.quantities import (
    COMPRESSION,
    SCATTER_LABELS,
    last_on_train,
    one_factor,
    with_derived,
)
from flatness.studies.chen.within_groups import (
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
    ("mls", "adaptive_sharpness"),
    ("nmls", "adaptive_sharpness"),
    ("root_sharpness", "adaptive_sharpness"),
    ("generalisation_gap", "adaptive_sharpness"),
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
    """Puts a family's measurements into one table, and correlates and compares their columns."""
    settings = Statistics.model_validate_json(statistics)
    measured = read_tables(measurements, MeasuredCheckpoint).sort_values(
        ["setting", "seed", "step", "sampled"], ignore_index=True
    )
    common = {name: measured[name].iloc[0] for name in ("family", "dataset", "demo")}
    common |= derived_from(measured, statistics=settings.model_dump())
    table = with_derived(measured)
    models = last_on_train(table)
    found = [
        *over_models(models, settings),
        *among_settings(models, settings),
        *among_seeds(models, settings),
        *over_checkpoints(table, settings),
    ]
    rows = [FamilyCorrelation(**common, confidence=settings.confidence, **row) for row in found]
    write_table(checkpoints, [MeasuredCheckpoint(**row) for row in measured.to_dict("records")])
    write_table(correlations, rows)
    write_table(bounds, [BoundTightness(**common, **row) for row in tightness(table)])


def over_models(models: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Correlations over models at the end of training.

    Args:
        models: one row a model, with derived columns.
        settings: of the resampling.

    Yields:
        Columns of `FamilyCorrelation`: each pair of the scatter matrix and `FURTHER_PAIRS` with
        every method; then learning rate and batch size with sharpness and compression, alone and
        with the training loss held fixed.
    """
    for x, y in (*combinations(SCATTER_LABELS, 2), *FURTHER_PAIRS):
        for method in METHODS:
            yield _over(models, "models", x, y, method, settings)
    for factor in ("learning_rate", "batch_size"):
        part = one_factor(models, factor)
        other = "batch_size" if factor == "learning_rate" else "learning_rate"
        held = part[other].iloc[0] if len(part) else np.nan
        over = f"models at {other.replace('_', ' ')} {held:g}"
        for y in ("root_sharpness", *COMPRESSION):
            for covariate in ("", "train_loss"):
                yield _over(part, over, factor, y, "spearman", settings, covariate)


def _over(
    models: pd.DataFrame,
    over: str,
    x: str,
    y: str,
    method: str,
    settings: Statistics,
    covariate: str = "",
) -> dict[str, Any]:
    """One correlation over models; models of a seed share initial weights and data order."""
    names = list(dict.fromkeys([x, y, *([covariate] if covariate else [])]))
    finite = np.isfinite(models[names]).all(axis=1)
    used = models[finite]
    row = {"over": over, "x": x, "y": y, "covariate": covariate, "method": method}
    row |= {"n": len(used), "interpolated": int(used["interpolated"].sum())}
    row |= excluded(models[~finite])
    found = correlate(
        used[x],
        used[y],
        method=method,
        groups=used["seed"],
        given=used[covariate] if covariate else None,
        **settings.model_dump(),
    )
    return row | found.columns()
