"""Columns of the tables that hold every measure of both papers."""

import math
from typing import Any

from flatness.records.tables import Provenance, Row, column

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

    models: str = column("family or pool of models, as in the config")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    setting: str = column("grid setting, as in the config; empty for pools, which have one")
    seed: int = column("seed of the model: of initial weights and data order")
    measure: str = column("name of the measure")
    value: float = column("its value; nan where there is none", convention=CONVENTION)
    standard_error: float = column(
        "its standard error; nan where there is none",
        convention="over batches, or jackknife over samples",
    )
    status: str = column(STATUSES)
    reason: str = column("why there is no value, or why it is not used; empty otherwise")


class CrossModel(Row):
    """One measure of one model, beside the model's losses."""

    study: str = column("whose models: chen or epfl")
    models: str = column("family or pool of models, as in the config")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    setting: str = column("grid setting, as in the config; empty for pools, which have one")
    seed: int = column("seed of the model: of initial weights and data order")
    train_loss: float = column("loss over the training set", convention="as it was trained")
    test_loss: float = column("loss over the test set", convention="as it was trained")
    loss_gap: float = column("test less training loss")
    measure: str = column("name of the measure")
    value: float = column("its value; nan where there is none", convention=CONVENTION)
    standard_error: float = column("its standard error; nan where there is none")
    status: str = column(STATUSES)
    reason: str = column(
        "why there is no value, or why it is not used; empty otherwise",
        convention="why it is not used",
    )


class CrossCorrelation(Provenance):
    """One measure with one kind of loss over one family or pool."""

    study: str = column("whose models: chen or epfl")
    models: str = column("family or pool of models, as in the config")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    measure: str = column("name of the measure")
    loss: str = column("test_loss, or loss_gap: test less training loss")
    method: str = column(
        "kendall, pearson, spearman, pearson of logarithms, or mean score: the mean of a "
        "family's scores, positive towards the upper left"
    )
    estimate: float = column(
        "what was found: a coefficient, a difference, a change or a count; nan where there is none",
        convention="the coefficient",
    )
    low: float = column(
        "lower end of the estimate's interval", convention="jackknife-t over seeds on Fisher's z"
    )
    high: float = column("upper end")
    confidence: float = column("level of the intervals")
    p_value: float = column(
        "two-sided p-value that belongs to the interval; nan where there is none"
    )
    p_permutation: float = column(
        "two-sided permutation p-value", convention="models exchanged within seeds"
    )
    q_value: float = column(
        "p_value adjusted by Benjamini and Hochberg's procedure over all rows that have one"
    )
    n: int = column("how many are behind the row", convention="models")
    excluded: int = column("how many were left out", convention="models")
    reasons: str = column(
        "why some were left out, or why there is no estimate; empty for none",
        convention="with counts",
    )


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
