"""The verb `correlate-cross`: every measure of both papers with test loss and with the gap."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from scipy.stats import false_discovery_control
from tqdm import tqdm

from flatness.records.derived import derived_from
from flatness.records.tables import read_tables, write_table
from flatness.statistics.correlations import MINIMUM_MODELS, Correlation, correlate
from flatness.statistics.settings import Statistics
from flatness.studies.chen.measured_rows import MeasuredCheckpoint
from flatness.studies.chen.quantities import last_on_train
from flatness.studies.cross.measures import COMPRESSION, LOSSES, STRONG, WORST_CASE
from flatness.studies.cross.rows import (
    CrossCorrelation,
    CrossMeasurement,
    CrossModel,
    no_value,
    of_value,
)
from flatness.studies.epfl.rows import PoolModel

METHODS = ("kendall", "pearson")
COLUMNS = list(CrossModel.model_fields)


def correlate_measures(
    statistics: Annotated[str, typer.Option(help="resampling settings, as JSON")],
    checkpoints: Annotated[list[Path], typer.Option(help="tables of correlate-chen, one a family")],
    pools: Annotated[list[Path], typer.Option(help="tables of correlate-epfl, one a pool")],
    measurements: Annotated[list[Path], typer.Option(help="tables of measure-cross-…")],
    models: Annotated[Path, typer.Option(help="table of models to write")],
    output: Annotated[Path, typer.Option(help="table of correlations to write")],
) -> None:
    """Collects every measure of every model in one table and correlates it with both losses."""
    settings = Statistics.model_validate_json(statistics)
    measured = read_tables(measurements, CrossMeasurement)
    families = last_on_train(read_tables(checkpoints, MeasuredCheckpoint))
    pooled = read_tables(pools, PoolModel)
    table = pd.concat(
        [family_models(families, measured), pool_models(pooled, measured)], ignore_index=True
    )
    source = derived_from(measured, families, pooled, statistics=settings.model_dump())
    found = with_q_values(list(correlations(table, settings)))
    write_table(models, [CrossModel(**line) for line in table.to_dict("records")])
    write_table(
        output,
        [CrossCorrelation(confidence=settings.confidence, **row, **source) for row in found],
    )


def family_models(checkpoints: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Every measure of the models of the compression study.

    Args:
        checkpoints: rows of `MeasuredCheckpoint`, one per model.
        measured: rows of `CrossMeasurement`, including those of pools.

    Returns:
        Rows of `CrossModel`; √S stands for S, as in the study's own correlations.
    """
    keys = ["models", "setting", "seed"]
    own = checkpoints.rename(columns={"family": "models"}).assign(
        study="chen", loss_gap=checkpoints["test_loss"] - checkpoints["train_loss"]
    )
    losses = own[[*keys, "study", "train_loss", "test_loss", "loss_gap"]]
    worst = measured[measured["measure"] == STRONG].merge(losses, on=keys, validate="one_to_one")
    parts = [worst[COLUMNS]]
    for name in COMPRESSION:
        values = [
            no_value("diverged", line["reason"])
            if line["diverged"]
            else of_value(line[name], line[f"{name}_se"])
            for line in own.to_dict("records")
        ]
        columns = pd.DataFrame(values, index=own.index)
        parts.append(own.assign(measure=name, **columns)[COLUMNS])
    return with_root_sharpness(pd.concat(parts, ignore_index=True))


def pool_models(pools: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Every measure of the models of the EPFL study.

    Args:
        pools: rows of `PoolModel`, one per model.
        measured: rows of `CrossMeasurement`, including those of families.

    Returns:
        Rows of `CrossModel`.
    """
    keys = ["models", "seed"]
    own = pools.rename(columns={"pool": "models"}).assign(
        study="epfl", loss_gap=pools["test_loss"] - pools["train_loss"]
    )
    losses = own[[*keys, "study", "train_loss", "test_loss", "loss_gap"]]
    compression = measured[measured["measure"] != STRONG].merge(
        losses, on=keys, validate="many_to_one"
    )
    first = compression.drop_duplicates(keys)[[*keys, "dataset", "setting", "status"]]
    worst = own.merge(first, on=keys, validate="one_to_one")
    diverged = worst["status"] == "diverged"
    worst["status"] = np.select(
        [worst["used"], diverged], ["used", "diverged"], default="not measured"
    )
    worst["measure"] = WORST_CASE + worst["measured"]
    worst = worst.rename(
        columns={"worst_case_sharpness": "value", "worst_case_sharpness_se": "standard_error"}
    )
    return with_root_sharpness(pd.concat([worst[COLUMNS], compression[COLUMNS]], ignore_index=True))


def with_root_sharpness(table: pd.DataFrame) -> pd.DataFrame:
    """√S and its standard error in place of S, since the paper correlates and plots √S."""
    sharpness = table["measure"] == "sharpness"
    root = np.sqrt(table.loc[sharpness, "value"])
    table.loc[sharpness, "standard_error"] /= 2 * root
    table.loc[sharpness, "value"] = root
    table.loc[sharpness, "measure"] = "root_sharpness"
    return table


def correlations(table: pd.DataFrame, settings: Statistics) -> Iterator[dict[str, Any]]:
    """Kendall's τ and Pearson's r of each measure with both losses, within each family and pool.

    Args:
        table: rows of `CrossModel`.
        settings: of the resampling.

    Yields:
        Columns of `CrossCorrelation`, without q-values; NaN if there is no coefficient.
    """
    groups = table.groupby(["study", "models", "measure"], sort=False)
    for (study, models, measure), group in tqdm(groups, unit="measure", mininterval=5):
        used = group[group["status"] == "used"]
        common = {"study": study, "models": models, "measure": measure}
        common |= {name: group[name].iloc[0] for name in ("dataset", "demo")}
        common |= {"n": len(used), "excluded": len(group) - len(used)}
        for loss in LOSSES:
            for method in METHODS:
                found = correlate(
                    used["value"],
                    used[loss],
                    method=method,
                    groups=used["seed"],  # models of a seed share initial weights
                    **settings.model_dump(),
                )
                yield (
                    common
                    | found.columns()
                    | {
                        "loss": loss,
                        "method": method,
                        "reasons": _reasons(group, found),
                    }
                )


def _reasons(group: pd.DataFrame, found: Correlation) -> str:
    """Why models were left out, with counts, and why there is no coefficient."""
    left_out = group[group["status"] != "used"]
    counts = (left_out["status"] + ": " + left_out["reason"]).value_counts()
    parts = [f"{count} × {reason}" for reason, count in counts.items()]
    if found.n >= MINIMUM_MODELS and np.isnan(found.estimate):
        parts.append("the measure is the same for all models")
    elif 0 < found.n < MINIMUM_MODELS:
        parts.append(f"{found.n} models, {MINIMUM_MODELS} are needed")
    return "; ".join(parts)


def with_q_values(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adjusts the p-values of all rows together (Benjamini and Hochberg, 1995).

    They belong to the intervals: with a small q-value, the interval excludes 0.

    Args:
        rows: with `p_value`; rows without one are not tests and do not count.

    Returns:
        The same rows with `q_value`, NaN where there is no test.
    """
    p = np.array([row["p_value"] for row in rows])
    q = np.full(len(p), np.nan)
    tested = np.isfinite(p)
    q[tested] = false_discovery_control(p[tested], method="bh")
    return [row | {"q_value": float(value)} for row, value in zip(rows, q, strict=True)]
