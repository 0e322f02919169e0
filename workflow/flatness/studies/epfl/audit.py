"""The audit: the effect of each departure of the released code from the report."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from flatness.errors import NumericalError
from flatness.records.derived import derived_from
from flatness.records.tables import read_tables, write_table
from flatness.statistics.correlations import correlate
from flatness.statistics.settings import Statistics
from flatness.studies.epfl.against_source import against_source
from flatness.studies.epfl.correlate import join_pool
from flatness.studies.epfl.defects import MEASURING_DEFECTS, TRAINING_DEFECTS
from flatness.studies.epfl.published import PUBLISHED
from flatness.studies.epfl.rows import AuditedProtocol, MeasuredModel, PoolModel, TrainedModel
from flatness.studies.epfl.study import AuditPlan, AuditRun

DESCRIPTIONS = {
    "written": "as the report says",
    "strong": "sign ascent from the centre and from random corners, best point kept",
}


def audit_pool(
    plan: Annotated[str, typer.Option(help="protocols, each with its models, as JSON")],
    statistics: Annotated[str, typer.Option(help="resampling settings, as JSON")],
    training: Annotated[Path, typer.Option(help="folder of <trained>/<block>.csv")],
    measurements: Annotated[Path, typer.Option(help="folder of <trained>/<measured>/<block>.csv")],
    models: Annotated[Path, typer.Option(help="table of models to write")],
    output: Annotated[Path, typer.Option(help="table of protocols to write")],
    released: Annotated[Path, typer.Option(help="table of the released protocol to write")],
) -> None:
    """Compares a pool's sharpness, losses and τ under each protocol with the written ones."""
    settings = Statistics.model_validate_json(statistics)
    planned = AuditPlan.model_validate_json(plan)
    found = [read_run(run, training, measurements) for run in planned.runs]
    written = found[0]
    rows = [
        protocol_row(planned.pool, run, joined, written, settings)
        for run, joined in zip(planned.runs, found, strict=True)
    ]
    write_table(models, model_rows(planned.runs, found))
    write_table(output, rows)
    throughout = next(
        joined for run, joined in zip(planned.runs, found, strict=True) if run.part == "both"
    )
    write_table(released, against_source(planned.pool, throughout, settings))


def read_run(run: AuditRun, training: Path, measurements: Path) -> pd.DataFrame:
    """One row per model of a run, as `join_pool` returns them."""
    trained = [training / run.trained / f"{block}.csv" for block in run.blocks]
    measured = [measurements / run.trained / run.measured / f"{block}.csv" for block in run.blocks]
    joined = join_pool(read_tables(trained, TrainedModel), read_tables(measured, MeasuredModel))
    return joined[joined["seed"] < run.models].reset_index(drop=True)


def protocol_row(
    pool: str, run: AuditRun, joined: pd.DataFrame, written: pd.DataFrame, settings: Statistics
) -> AuditedProtocol:
    """One line of the audit.

    Args:
        pool: name of the pool.
        run: the protocol.
        joined: its models, as `read_run` returns them.
        written: models under the written protocol, all seeds of `joined` among them.
        settings: resampling.

    Returns:
        The line.

    Raises:
        NumericalError: no model of the protocol is usable.
    """
    used = joined[joined["used"]]
    if used.empty:
        raise NumericalError(
            f"pool {pool} ({run.trained}, {run.measured}): none of {len(joined)} models is usable; "
            f"{joined['reason'].iloc[0]}"
        )
    means, tau = mean_columns(used, written), tau_columns(used, settings)
    first = joined.iloc[0]
    return AuditedProtocol(
        pool=pool,
        dataset=first["dataset"],
        demo=first["demo"],
        part=run.part,
        trained=run.trained,
        measured=run.measured,
        description=describe(pool, run),
        n=len(used),
        excluded=len(joined) - len(used),
        **means,
        **tau,
        confidence=settings.confidence,
        published_tau=PUBLISHED[pool][0],
        **derived_from(joined, statistics=settings.model_dump(), run=run.model_dump(mode="json")),
    )


def mean_columns(used: pd.DataFrame, written: pd.DataFrame) -> dict[str, float]:
    """The columns `worst_case_sharpness` to `test_accuracy`: means, and the ratio to written."""
    sharpness, sharpness_error = mean_and_error(used["worst_case_sharpness"])
    test_loss, test_loss_se = mean_and_error(used["test_loss"])
    base = written[written["used"]].set_index("seed")["worst_case_sharpness"].rename("written")
    pairs = used.set_index("seed")["worst_case_sharpness"].to_frame().join(base, how="inner")
    ratio, ratio_se = ratio_of_means(pairs["worst_case_sharpness"], pairs["written"])
    return {
        "worst_case_sharpness": sharpness,
        "worst_case_sharpness_se": sharpness_error,
        "ratio": ratio,
        "ratio_se": ratio_se,
        "test_loss": test_loss,
        "test_loss_se": test_loss_se,
        "test_accuracy": float(used["test_accuracy"].mean()),
    }


def mean_and_error(values: pd.Series) -> tuple[float, float]:
    """Mean over models and its standard error, which is NaN for one model."""
    return float(values.mean()), float(values.sem())


def ratio_of_means(values: pd.Series, base: pd.Series) -> tuple[float, float]:
    """Ratio R of the means of paired values, with its standard error.

    To first order, the error is that of the mean of a − R b, divided by the mean of b: common
    parts, such as the drawn batches, cancel.

    Args:
        values: a, one per model.
        base: b of the same models.

    Returns:
        R and its standard error; both NaN without pairs, the error NaN for one pair.
    """
    if not len(values):
        return math.nan, math.nan
    ratio = float(values.mean() / base.mean())
    return ratio, float((values - ratio * base).sem() / abs(base.mean()))


def tau_columns(used: pd.DataFrame, settings: Statistics) -> dict[str, float]:
    """The columns `tau` to `p_permutation`, NaN if there are too few models."""
    x, y = used["worst_case_sharpness"], used["test_loss"]
    return correlate(x, y, method="kendall", **settings.model_dump()).columns("tau")


def describe(pool: str, run: AuditRun) -> str:
    """A protocol in words."""
    if run.part == "both":
        return "trained and measured with all defects of the released code"
    name = run.trained if run.part == "training" else run.measured
    defects = (TRAINING_DEFECTS if run.part == "training" else MEASURING_DEFECTS)[pool]
    if name == "released":
        return "all defects at once" if len(defects) > 1 else next(iter(defects.values()))
    return defects[name] if name in defects else DESCRIPTIONS[name]


def model_rows(planned: Sequence[AuditRun], found: list[pd.DataFrame]) -> list[PoolModel]:
    """Every model under every pair of protocols, once."""
    columns = [name for name in PoolModel.model_fields if name not in ("trained", "measured")]
    largest: dict[tuple[str, str], pd.DataFrame] = {}
    for run, joined in zip(planned, found, strict=True):
        key = run.trained, run.measured
        if len(joined) > len(largest.get(key, [])):
            largest[key] = joined
    return [
        PoolModel(trained=trained, measured=measured, **line)
        for (trained, measured), joined in largest.items()
        for line in joined[columns].to_dict("records")
    ]
