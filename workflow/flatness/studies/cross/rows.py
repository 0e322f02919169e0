"""Columns of the tables that hold every measure of both papers."""

import math
from typing import Any

from flatness.records.tables import Provenance, Row, column
from flatness.studies import words

STATUSES = (
    "used, not defined (the measure has no value there by its definition), diverged (in training), "
    "or not measured (the measuring failed)"
)

CONVENTION = (
    "worst_case_strong: L = 1/(2n) Σ ||f(x) − y||², the same batches for every model of a family; "
    "worst_case_written and _released: the pool's training loss; others: as the quantities of the "
    "same name of a measured checkpoint, f a pool's output before any softmax"
)


class CrossMeasurement(Provenance):
    """One measure of one paper on one model of the other."""

    models: str = column(words.MODELS)
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    setting: str = column(words.SETTING)
    seed: int = column(words.SEED)
    measure: str = column(words.MEASURE)
    value: float = column(words.VALUE, convention=CONVENTION)
    standard_error: float = column(
        words.STANDARD_ERROR, convention="over batches, or jackknife over samples"
    )
    status: str = column(STATUSES)
    reason: str = column(words.REASON)


class CrossModel(Row):
    """One measure of one model, beside the model's losses."""

    study: str = column(words.STUDY)
    models: str = column(words.MODELS)
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    setting: str = column(words.SETTING)
    seed: int = column(words.SEED)
    train_loss: float = column(words.TRAIN_LOSS, convention="as it was trained")
    test_loss: float = column(words.TEST_LOSS, convention="as it was trained")
    loss_gap: float = column("test less training loss")
    measure: str = column(words.MEASURE)
    value: float = column(words.VALUE, convention=CONVENTION)
    standard_error: float = column(words.STANDARD_ERROR)
    status: str = column(STATUSES)
    reason: str = column(words.REASON, convention="why it is not used")


class CrossCorrelation(Provenance):
    """One measure with one kind of loss over one family or pool."""

    study: str = column(words.STUDY)
    models: str = column(words.MODELS)
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    measure: str = column(words.MEASURE)
    loss: str = column("test_loss, or loss_gap: test less training loss")
    method: str = column(words.METHOD)
    estimate: float = column(words.ESTIMATE, convention="the coefficient")
    low: float = column(words.LOW, convention="jackknife-t over seeds on Fisher's z")
    high: float = column(words.HIGH)
    confidence: float = column(words.CONFIDENCE)
    p_value: float = column(words.P_VALUE)
    p_permutation: float = column(words.P_PERMUTATION, convention="models exchanged within seeds")
    q_value: float = column(
        "p_value adjusted by Benjamini and Hochberg's procedure over all rows that have one"
    )
    n: int = column(words.N, convention="models")
    excluded: int = column(words.EXCLUDED, convention="models")
    reasons: str = column(words.REASONS, convention="with counts")


def of_value(value: float, standard_error: float) -> dict[str, Any]:
    """Says of a value whether it can be used.

    An infinite one is kept as it is: the log volume of a Jacobian whose rank is below 3.

    Returns:
        Columns value, standard_error, status and reason; a value that is not finite is none.
    """
    reason = "" if math.isfinite(value) else f"its value is {value} for this model"
    return {
        "value": value,
        "standard_error": standard_error,
        "status": "not defined" if reason else "used",
        "reason": reason,
    }


def no_value(status: str, reason: str) -> dict[str, Any]:
    """The same columns where nothing was measured, for one of `STATUSES`."""
    empty = {"value": math.nan, "standard_error": math.nan}
    return empty | {"status": status, "reason": reason}
