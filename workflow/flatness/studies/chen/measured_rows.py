"""Columns of the tables of measurements, correlations and bounds."""

from pydantic import create_model

from flatness.records.tables import Provenance, column
from flatness.studies.chen.rows import Checkpoint
from flatness.studies.quantity_columns import quantity_columns


class _MeasuredCheckpoint(Checkpoint):
    network: str = column("name of the network")
    learning_rate: float = column("learning rate", symbol="η")
    batch_size: int = column("batch size", symbol="B")
    last: bool = column("whether the step is the end of training")
    sampled: str = column("images measured: train, test, or misclassified (test images)")
    samples: int = column("images measured", symbol="n")
    interpolated: bool = column(
        "whether training loss is at most 1e-3 and training accuracy at least 99.5 %"
    )
    accuracy_gap: float = column("training less test accuracy", unit="%")
    hessian_trace: float = column(
        "estimated trace of the Hessian of the loss on the measured images; at the end of training "
        "of interpolating models of the first seeds, nan elsewhere",
        symbol="Tr ∇²L",
        convention="L = 1/(2n) Σ ||f(x) − y||²",
    )
    hessian_trace_se: float = column("its standard error")


#: One model at one step, with every measure and its standard error.
MeasuredCheckpoint = create_model(
    "MeasuredCheckpoint",
    __base__=_MeasuredCheckpoint,
    __doc__="One model at one step of its training, measured.",
    **quantity_columns(),
)


class FamilyCorrelation(Provenance):
    """One correlation coefficient of two quantities within a family."""

    family: str = column("family of models", convention="as in the config")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    train_size: int = column("training images")
    steps: int = column("steps of the longest training", unit="steps")
    over: str = column(
        "what it is taken over: models, settings (within each seed, then averaged over "
        "seeds), seeds (within each setting, then averaged over settings), checkpoints "
        "(within each run, then averaged over the runs of each seed, then over seeds), or "
        "run (one run alone)"
    )
    at: str = column(
        "where models are compared: end of training (equal steps), or at a training loss, to which "
        "each model's checkpoints are interpolated; over checkpoints: along training"
    )
    sampled: str = column("images measured: train, test, or misclassified (test images)")
    x: str = column("one quantity of a pair")
    y: str = column("which quantity; of a pair the other one")
    covariate: str = column("quantity held fixed (partial correlation); empty for none")
    method: str = column(
        "kendall, pearson, spearman, pearson of logarithms, or mean score: the mean of a "
        "family's scores, positive towards the upper left"
    )
    estimate: float = column(
        "what was found: a coefficient, a difference, a change or a count; nan where there is none",
        convention="the coefficient, or the mean of the seeds' or settings' coefficients",
    )
    low: float = column(
        "lower end of the estimate's interval",
        convention="jackknife-t over seeds on Fisher's z; nan below five seeds",
    )
    high: float = column("upper end")
    confidence: float = column("level of the intervals")
    p_value: float = column(
        "two-sided p-value that belongs to the interval; nan where there is none"
    )
    p_permutation: float = column(
        "two-sided permutation p-value",
        convention="models exchanged within seeds; of a mean over seeds by sign flips; over seeds "
        "by exchanging seeds",
    )
    n: int = column(
        "how many are behind the row",
        convention="models; over settings, seeds and checkpoints: seeds",
    )
    interpolating: int = column(
        "how many models or runs interpolate", convention="at the end of training"
    )
    excluded: int = column("how many were left out", convention="models or runs")
    reasons: str = column(
        "why some were left out, or why there is no estimate; empty for none",
        convention="with counts",
    )


class BoundTightness(Provenance):
    """How a bound compares with what it bounds, over the checkpoints of a family."""

    family: str = column("family of models", convention="as in the config")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    quantity: str = column("the bounded quantity")
    bound: str = column("the bound")
    standing: str = column("theorem or heuristic")
    median_log10_ratio: float = column("median over checkpoints of log10(bound / quantity)")
    lowest_log10_ratio: float = column("lowest log10(bound / quantity)")
    violations: int = column("checkpoints at which the bound is below the quantity")
    violation_rate: float = column("the same as a share of n")
    n: int = column(
        "how many are behind the row",
        convention="checkpoints at which both are defined and the bound is not infinite",
    )
