"""The sampling distribution of τ over independent replications of a pool.

Replications on one split share the data, like the models of a pool: their spread comes from initial
weights and data orders. If splits are drawn, too, the interval of the mean is over splits, since
replications on one split say nothing about another split.
"""

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from scipy import stats
from tqdm import tqdm

from flatness.errors import NumericalError
from flatness.records.derived import derived_from
from flatness.records.tables import read_tables, write_table
from flatness.statistics.correlations import MINIMUM_MODELS, correlate, mean_interval
from flatness.statistics.settings import Statistics
from flatness.studies.epfl.correlate import join_pool
from flatness.studies.epfl.published import PUBLISHED
from flatness.studies.epfl.reliability import corrected_tau, reliability
from flatness.studies.epfl.rows import (
    MeasuredModel,
    ReplicatedModel,
    Replication,
    TauDistribution,
    TrainedModel,
)


def replicate_pool(
    pool: Annotated[str, typer.Option(help="fcnn, lenet5 or gat")],
    trained: Annotated[str, typer.Option(help="training protocol")],
    measured: Annotated[str, typer.Option(help="measuring protocol")],
    size: Annotated[int, typer.Option(help="models in one replication")],
    statistics: Annotated[str, typer.Option(help="resampling settings, as JSON")],
    training: Annotated[list[Path], typer.Option(help="training tables, one per block")],
    measurements: Annotated[list[Path], typer.Option(help="measurement tables, one per block")],
    models: Annotated[Path, typer.Option(help="table of models to write")],
    replications: Annotated[Path, typer.Option(help="table of replications to write")],
    output: Annotated[Path, typer.Option(help="table of the distribution to write")],
) -> None:
    """Correlates sharpness with test loss in each replication and summarises the τ."""
    settings = Statistics.model_validate_json(statistics)
    trained_models = read_tables(training, TrainedModel)
    measured_models = read_tables(measurements, MeasuredModel)
    joined = join_pool(trained_models, measured_models)
    joined["replication"] = joined["seed"] // size
    groups = tqdm(joined.groupby("replication"), desc=pool, unit="replication", mininterval=5)
    rows = [replication_row(group, settings) for _, group in groups]
    kept = [row for row in rows if not row.reason]
    if not kept:
        raise NumericalError(
            f"pool {pool} ({trained}, {measured}): none of {len(rows)} replications has a τ; "
            f"{rows[0].reason}"
        )
    summary = TauDistribution(
        pool=pool,
        dataset=joined["dataset"].iloc[0],
        demo=joined["demo"].iloc[0],
        train_size=joined["train_size"].iloc[0],
        trained=trained,
        measured=measured,
        measure="worst_case_sharpness",
        **tau_distribution(
            np.array([row.tau for row in kept]),
            PUBLISHED[pool][0],
            settings.confidence,
            splits=np.array([row.split for row in kept]),
        ),
        mean_reliability=float(np.mean([row.reliability for row in kept])),
        mean_tau_corrected=float(np.mean([row.tau_corrected for row in kept])),
        confidence=settings.confidence,
        excluded=len(rows) - len(kept),
        replication_size=size,
        published_tau=PUBLISHED[pool][0],
        **derived_from(joined, statistics=settings.model_dump(), size=size),
    )
    columns = [name for name in ReplicatedModel.model_fields if name in joined]
    lines = joined[columns].to_dict("records")
    protocols = {"trained": trained, "measured": measured}
    write_table(models, [ReplicatedModel(**protocols, **line) for line in lines])
    write_table(replications, rows)
    write_table(output, [summary])


def replication_row(group: pd.DataFrame, settings: Statistics) -> Replication:
    """τ of one replication.

    Args:
        group: its rows as `join_pool` returns them, with the column `replication`.
        settings: resampling.

    Returns:
        The row; without a τ where fewer than 3 models are usable or a variable is constant.
    """
    used = group[group["used"]]
    first = group.iloc[0]
    shared = {
        "pool": first["pool"],
        "demo": first["demo"],
        "replication": first["replication"],
        "split": first["split"],
        "n": len(used),
        "excluded": len(group) - len(used),
    }
    reason = ""
    found = correlate(
        used["worst_case_sharpness"], used["test_loss"], method="kendall", **settings.model_dump()
    )
    if len(used) < MINIMUM_MODELS:
        reason = f"{len(used)} usable models of {len(group)}, a τ needs {MINIMUM_MODELS}"
    elif math.isnan(found.estimate):
        reason = "sharpness or test loss is constant"
    columns = found.columns("tau")
    del columns["p_value"]
    share = reliability(used["worst_case_sharpness"], used["worst_case_sharpness_se"])
    corrected = corrected_tau(found.estimate, share)
    return Replication(
        **shared, **columns, reliability=share, tau_corrected=corrected, reason=reason
    )


def tau_distribution(
    taus: np.ndarray, published: float, confidence: float, *, splits: np.ndarray
) -> dict[str, float]:
    """Mean, spread and intervals of τ over replications.

    Args:
        taus: one finite τ a replication, shape (R,).
        published: the report's τ.
        confidence: level of both intervals.
        splits: train/test split of each replication, (R,).

    Returns:
        The columns `mean_tau` to `percentile` of `TauDistribution` that depend on the τ; for one
        replication the spread and both intervals are NaN.
    """
    between, within = spread_of_splits(taus, splits)
    several = len(set(splits)) > 1
    units = pd.Series(taus).groupby(splits).mean().to_numpy() if several else taus
    count, mean = len(units), float(np.mean(units))
    t = float(stats.t.ppf((1 + confidence) / 2, count - 1)) if count > 1 else math.nan
    error = float(np.std(units, ddof=1) / math.sqrt(count)) if count > 1 else math.nan
    # Without two replications on any split, the two spreads cannot be separated.
    parts = between**2 + within**2 if several else within**2
    deviation = float(np.std(units, ddof=1)) if math.isnan(parts) and several else math.sqrt(parts)
    of_mean, of_one = t * error, t * math.hypot(deviation, error)
    return {
        "mean_tau": mean,
        "low": mean - of_mean,
        "high": mean + of_mean,
        "p_value": mean_interval(taus, confidence).p_value,
        "sd": deviation,
        "splits": len(set(splits)),
        "split_sd": between,
        "predictive_low": mean - of_one,
        "predictive_high": mean + of_one,
        "replications": len(taus),
        "percentile": (int((taus <= published).sum()) + 1) / (len(taus) + 1),
    }


def spread_of_splits(taus: np.ndarray, splits: np.ndarray) -> tuple[float, float]:
    """Standard deviation of τ between splits, and between replications on one split.

    The first is the spread of the splits' means, minus the part due to replications.

    Args:
        taus: one per replication, (R,).
        splits: of each, (R,).

    Returns:
        Between and within; NaN for one split and where no split has two replications.
    """
    groups = pd.Series(taus).groupby(splits)
    free = len(taus) - groups.ngroups
    if not free:
        return math.nan, math.nan
    within = float((groups.var() * (groups.size() - 1)).sum() / free)
    if groups.ngroups < 2:
        return math.nan, math.sqrt(within)
    chance = within * float((1 / groups.size()).mean())
    return math.sqrt(max(float(groups.mean().var()) - chance, 0.0)), math.sqrt(within)
