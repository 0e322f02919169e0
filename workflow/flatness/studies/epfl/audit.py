"""The audit: what each departure of the released code from the report does to the numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from scipy import stats

from flatness.errors import NumericalError
from flatness.records.derived import derived_from
from flatness.records.tables import read_tables, write_table
from flatness.statistics.correlations import correlate
from flatness.statistics.settings import Statistics
from flatness.studies.epfl.audit_rows import AuditedProtocol
from flatness.studies.epfl.config import MEASURING_DEFECTS, TRAINING_DEFECTS
from flatness.studies.epfl.correlate import PUBLISHED, join_pool
from flatness.studies.epfl.rows import MeasuredModel, PoolModel, TrainedModel
from flatness.studies.epfl.study import AuditPlan, AuditRun


@dataclass(frozen=True)
class Reference:
    """What the released code gave when it was run before, on another machine.

    Attributes:
        quantity: tau or worst_case_sharpness.
        value: of one run of 50 models, or of one model.
        error: standard error; None is that of our own τ.
        comparable: whether it was had under the same conditions as the row it stands beside.
    """

    quantity: str
    value: float
    error: float | None
    comparable: bool = True


#: By pool, part and measuring protocol. The single defects of LeNet-5 were switched on in one
#: ascent over the whole set, on a model trained as released.
REFERENCES = {
    ("fcnn", "both", "released"): Reference("tau", 0.131, None),
    ("gat", "both", "released"): Reference("tau", -0.027, None),
    ("lenet5", "both", "released"): Reference("worst_case_sharpness", 0.52, 0.01),
    ("lenet5", "measuring", "whole_set"): Reference(
        "worst_case_sharpness", 0.0009, 5e-5, comparable=False
    ),
    ("lenet5", "measuring", "moved_centre"): Reference(
        "worst_case_sharpness", 0.26, 0.01, comparable=False
    ),
    ("lenet5", "measuring", "train_batch_norm"): Reference(
        "worst_case_sharpness", 0.14, 0.01, comparable=False
    ),
}

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


def read_run(run: AuditRun, training: Path, measurements: Path) -> pd.DataFrame:
    """One row a model of a run, as `join_pool` returns them."""
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
    # Made-up data have nothing that the released code was run on.
    known = None if first["demo"] else REFERENCES.get((pool, run.part, run.measured))
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
        **reference_columns(
            known, tau, (means["worst_case_sharpness"], means["worst_case_sharpness_se"]), settings
        ),
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
    """Mean over models and its standard error, NaN for one model."""
    return float(values.mean()), float(values.sem())


def ratio_of_means(values: pd.Series, base: pd.Series) -> tuple[float, float]:
    """Ratio R of the means of paired values, with its standard error.

    To first order the error is that of the mean of a − R b over the mean of b: what both share,
    such as the batches drawn, cancels.

    Args:
        values: a, one a model.
        base: b of the same models.

    Returns:
        R and its standard error; NaN for no pair, and the error for one.
    """
    if not len(values):
        return math.nan, math.nan
    ratio = float(values.mean() / base.mean())
    return ratio, float((values - ratio * base).sem() / abs(base.mean()))


def tau_columns(used: pd.DataFrame, settings: Statistics) -> dict[str, float]:
    """The columns `tau` to `p_permutation`, NaN where the models are too few."""
    x, y = used["worst_case_sharpness"], used["test_loss"]
    return correlate(x, y, method="kendall", **settings.model_dump()).columns("tau")


def reference_columns(
    reference: Reference | None,
    tau: dict[str, float],
    sharpness: tuple[float, float],
    settings: Statistics,
) -> dict[str, object]:
    """The reference beside a line, and how far our value lies from it.

    Args:
        reference: None where there is none.
        tau: as `tau_columns` returns them.
        sharpness: mean and standard error.
        settings: resampling, for the level of the τ interval.

    Returns:
        The columns `reference_of` to `deviation`.
    """
    if reference is None:
        absent = dict.fromkeys(("reference", "reference_se", "deviation"), math.nan)
        return {"reference_of": "", **absent}
    value, error = sharpness
    if reference.quantity == "tau":
        width = 2 * stats.norm.ppf((1 + settings.confidence) / 2)
        value, error = tau["tau"], (tau["high"] - tau["low"]) / width
    of_reference = error if reference.error is None else reference.error
    deviation = (value - reference.value) / np.hypot(error, of_reference)
    return {
        "reference_of": reference.quantity,
        "reference": reference.value,
        "reference_se": of_reference,
        "deviation": float(deviation) if reference.comparable else math.nan,
    }


def describe(pool: str, run: AuditRun) -> str:
    """What a protocol does, in words."""
    if run.part == "both":
        return "trained and measured with all defects of the released code"
    name = run.trained if run.part == "training" else run.measured
    defects = (TRAINING_DEFECTS if run.part == "training" else MEASURING_DEFECTS)[pool]
    if name == "released":
        return next(iter(defects.values())) if len(defects) == 1 else "all defects at once"
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
