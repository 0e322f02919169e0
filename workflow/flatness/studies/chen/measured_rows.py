"""Columns of the tables of measurements, and of those that follow from them."""

from pydantic import create_model

from flatness.records.tables import Provenance, column
from flatness.studies import words
from flatness.studies.chen.rows import Checkpoint
from flatness.studies.quantity_columns import quantity_columns

CHANGE = "log volume: the difference; other quantities: the natural logarithm of the ratio"


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

    family: str = column(words.FAMILY, convention="as in the config")
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    train_size: int = column(words.TRAIN_SIZE)
    steps: int = column(words.STEPS, unit="steps")
    over: str = column(words.OVER)
    at: str = column(words.AT)
    sampled: str = column(words.SAMPLED)
    x: str = column(words.X)
    y: str = column(words.Y)
    covariate: str = column("quantity held fixed (partial correlation); empty for none")
    method: str = column(words.METHOD)
    estimate: float = column(
        words.ESTIMATE,
        convention="the coefficient, or the mean of the seeds' or settings' coefficients",
    )
    low: float = column(
        words.LOW, convention="jackknife-t over seeds on Fisher's z; nan below five seeds"
    )
    high: float = column(words.HIGH)
    confidence: float = column(words.CONFIDENCE)
    p_value: float = column(words.P_VALUE)
    p_permutation: float = column(
        words.P_PERMUTATION,
        convention="models exchanged within seeds; of a mean over seeds by sign flips; over seeds "
        "by exchanging seeds",
    )
    n: int = column(words.N, convention="models; over settings, seeds and checkpoints: seeds")
    interpolating: int = column(words.INTERPOLATING, convention="at the end of training")
    excluded: int = column(words.EXCLUDED, convention="models or runs")
    reasons: str = column(words.REASONS, convention="with counts")


class BoundTightness(Provenance):
    """How a bound compares with what it bounds, over the checkpoints of a family."""

    family: str = column(words.FAMILY, convention="as in the config")
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    quantity: str = column("the bounded quantity")
    bound: str = column("the bound")
    standing: str = column("theorem or heuristic")
    median_log10_ratio: float = column("median over checkpoints of log10(bound / quantity)")
    lowest_log10_ratio: float = column("lowest log10(bound / quantity)")
    violations: int = column("checkpoints at which the bound is below the quantity")
    violation_rate: float = column("the same as a share of n")
    n: int = column(
        words.N, convention="checkpoints at which both are defined and the bound is not infinite"
    )


class FamilyComparison(Provenance):
    """What every comparison says first."""

    family: str = column(words.FAMILY, convention="as in the config")
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    train_size: int = column(words.TRAIN_SIZE)
    steps: int = column(words.STEPS, unit="steps")
    confidence: float = column(words.CONFIDENCE)


class Contrast(FamilyComparison):
    """One quantity of a family less another."""

    contrast: str = column(
        "c_to_d_gap: log10(D/C) less the larger of log10(B/A) and log10(C/B), mean over the "
        "checkpoints of each run, over the runs of each seed, then over seeds; c_to_d_difference: "
        "likewise D − C less the larger of B − A and C − B, in units of A; "
        "mls_over_dimensionality: |r(√S, MLS)| less |r(√S, local dimensionality)| over models at "
        "the end of training, Pearson's r"
    )
    estimate: float = column(words.ESTIMATE, convention="the difference; nan below 3 models")
    low: float = column(words.LOW, convention="over seeds: t, or jackknife-t")
    high: float = column(words.HIGH)
    p_value: float = column(words.P_VALUE)
    n: int = column(
        words.N, convention="seeds (gap and difference) or models (mls_over_dimensionality)"
    )
    excluded: int = column(
        words.EXCLUDED, convention="runs or models with a quantity that is not finite"
    )


class FactorEffect(FamilyComparison):
    """What a factor of the grid does to models of the same seed."""

    factor: str = column(words.FACTOR)
    y: str = column(words.Y, convention="what the factor changes")
    at: str = column(words.AT)
    lowest: float = column("lowest level of the factor")
    highest: float = column("highest level")
    estimate: float = column(
        words.ESTIMATE, convention="y at the highest level less y at the lowest, mean over seeds"
    )
    low: float = column(words.LOW, convention="t over seeds")
    high: float = column(words.HIGH)
    p_value: float = column(words.P_VALUE)
    p_permutation: float = column(
        words.P_PERMUTATION, convention="the two levels exchanged within seeds"
    )
    p_page: float = column("two-sided p-value of Page's trend test over all levels within seeds")
    n: int = column(words.N, convention="seeds with a finite y at every level")
    interpolating: int = column(
        words.INTERPOLATING, convention="models of the n seeds, where they are compared"
    )
    excluded: int = column(words.EXCLUDED, convention="models of other seeds")
    reasons: str = column(words.REASONS, convention="with counts")


class InterpolatedChange(FamilyComparison):
    """How a quantity changes from a run's first interpolating checkpoint to its last."""

    over: str = column(
        words.OVER, convention="seeds: mean over the runs of each seed, then over seeds"
    )
    factor: str = column(words.FACTOR)
    level: str = column("one level of the factor, or all")
    seed: int = column(words.SEED, convention="-1 over seeds")
    sampled: str = column(words.SAMPLED)
    y: str = column(words.Y)
    estimate: float = column(words.ESTIMATE, convention=f"the change; {CHANGE}")
    low: float = column(words.LOW, convention="t over seeds; nan of a run")
    high: float = column(words.HIGH)
    p_value: float = column(words.P_VALUE)
    rising: int = column("runs in which the quantity is higher at the end")
    runs: int = column("runs used")
    n: int = column(words.N, convention="seeds")
    first_step: int = column("first interpolating checkpoint; over seeds the latest", unit="steps")
    last_step: int = column("end of training", unit="steps")
    excluded: int = column(words.EXCLUDED, convention="runs")
    reasons: str = column(words.REASONS, convention="with counts")
