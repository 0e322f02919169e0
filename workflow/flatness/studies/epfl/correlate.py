"""Kendall's τ between adaptive worst-case sharpness and test loss, over one pool of models."""

import math
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from flatness.errors import NumericalError
from flatness.records.derived import derived_from, together
from flatness.records.tables import read_tables, write_table
from flatness.statistics.correlations import MINIMUM_MODELS, correlate
from flatness.statistics.settings import Statistics
from flatness.studies.epfl.against_source import ranges
from flatness.studies.epfl.published import PUBLISHED, published_interval
from flatness.studies.epfl.reliability import corrected_tau, reliability
from flatness.studies.epfl.rows import MeasuredModel, PoolCorrelation, PoolModel, TrainedModel


def correlate_pool(
    pool: Annotated[str, typer.Option(help="fcnn, lenet5 or gat")],
    trained: Annotated[str, typer.Option(help="training protocol")],
    measured: Annotated[str, typer.Option(help="measuring protocol")],
    statistics: Annotated[str, typer.Option(help="resampling settings, as JSON")],
    training: Annotated[list[Path], typer.Option(help="training tables, one per block")],
    measurements: Annotated[list[Path], typer.Option(help="measurement tables, one per block")],
    models: Annotated[Path, typer.Option(help="table of models to write")],
    output: Annotated[Path, typer.Option(help="table of correlations to write")],
    published: Annotated[Path, typer.Option(help="table of multiples of the figure to write")],
) -> None:
    """Joins a pool's training and measuring tables and correlates sharpness with test loss."""
    settings = Statistics.model_validate_json(statistics)
    trained_models = read_tables(training, TrainedModel)
    measured_models = read_tables(measurements, MeasuredModel)
    joined = join_pool(trained_models, measured_models)
    columns = [name for name in PoolModel.model_fields if name in joined]
    rows = [
        PoolModel(trained=trained, measured=measured, **line)
        for line in joined[columns].to_dict("records")
    ]
    used = joined[joined["used"]]
    if len(used) < MINIMUM_MODELS:
        raise NumericalError(
            f"pool {pool} ({trained}, {measured}): {len(used)} usable models of {len(joined)}, "
            f"a τ needs {MINIMUM_MODELS}; left out: {_reasons(joined)}"
        )
    source = derived_from(joined, statistics=settings.model_dump())
    published_low, published_high = published_interval(pool, settings)
    tables = []
    for column in ("worst_case_sharpness", "worst_case_sharpness_clamped"):
        result = correlate(
            used[column], used["test_loss"], method="kendall", **settings.model_dump()
        )
        errors = (
            used["worst_case_sharpness_se"]
            if column == "worst_case_sharpness"
            else used["worst_case_sharpness_se"] * math.nan
        )
        share = reliability(used[column], errors)
        tables.append(
            PoolCorrelation(
                pool=pool,
                dataset=trained_models["dataset"].iloc[0],
                demo=trained_models["demo"].iloc[0],
                train_size=trained_models["train_size"].iloc[0],
                trained=trained,
                measured=measured,
                measure=column,
                **result.columns("tau"),
                confidence=settings.confidence,
                n=result.n,
                excluded=len(joined) - result.n,
                reliability=share,
                tau_corrected=corrected_tau(result.estimate, share),
                published_tau=PUBLISHED[pool][0],
                published_p=PUBLISHED[pool][1],
                published_low=published_low,
                published_high=published_high,
                **source,
            )
        )
    write_table(models, rows)
    write_table(output, tables)
    write_table(
        published, ranges(pool, joined, {"trained": trained, "measured": measured}, settings)
    )


def join_pool(trained: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Joins each model's sharpness with its losses, and says whether the model can be used.

    Args:
        trained: rows of `TrainedModel`.
        measured: rows of `MeasuredModel` of the same pool.

    Returns:
        One row a trained model, by seed, with `used` and `reason`; a model is never dropped. Its
        `experiment` and `instruction_set` name both.
    """
    columns = [
        "seed",
        "worst_case_sharpness",
        "worst_case_sharpness_se",
        "worst_case_sharpness_clamped",
        "reason",
    ]
    columns += ["experiment", "instruction_set"]
    joined = trained.merge(
        measured[columns],
        on="seed",
        how="left",
        validate="one_to_one",
        suffixes=("", "_measuring"),
    ).sort_values("seed", ignore_index=True)
    finite = joined[["worst_case_sharpness", "test_loss"]].abs().lt(float("inf")).all(axis=1)
    joined["used"] = finite & ~joined["diverged"]
    fallback = joined["reason_measuring"].fillna("").replace("", "no finite sharpness or test loss")
    joined["reason"] = joined["reason"].where(joined["reason"] != "", fallback)
    joined.loc[joined["used"], "reason"] = ""
    joined["experiment"] += "+" + joined["experiment_measuring"].fillna("")
    sets = joined[["instruction_set", "instruction_set_measuring"]].fillna("")
    joined["instruction_set"] = [together(pair) for pair in sets.itertuples(index=False)]
    return joined


def _reasons(joined: pd.DataFrame) -> str:
    counts = joined.loc[~joined["used"], "reason"].value_counts()
    return "; ".join(f"{count} × {reason}" for reason, count in counts.items()) or "none"
