"""Columns of the tables of comparisons within a family."""

from flatness.records.tables import Provenance, column

CHANGE = "log volume: the difference; other quantities: the natural logarithm of the ratio"


class FamilyComparison(Provenance):
    """What every comparison says first."""

    family: str = column("family of models, as in the config")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data set is a stand-in made for the demo")
    train_size: int = column("training images")
    steps: int = column("steps of the longest training", unit="steps")
    confidence: float = column("level of the interval")


class Contrast(FamilyComparison):
    """One quantity of a family less another."""

    contrast: str = column(
        "c_to_d_gap: log10(D/C) less the larger of log10(B/A) and log10(C/B), mean over the "
        "checkpoints of each run, over the runs of each seed, then over seeds; c_to_d_difference: "
        "likewise D − C less the larger of B − A and C − B, in units of A; "
        "mls_over_dimensionality: |r(√S, MLS)| less |r(√S, local dimensionality)| over models at "
        "the end of training, Pearson's r"
    )
    estimate: float = column("the difference; nan below 3 models")
    low: float = column("lower end of its interval over seeds: t, or jackknife-t")
    high: float = column("upper end")
    p_value: float = column("two-sided p-value of the interval")
    n: int = column("seeds (gap and difference) or models (mls_over_dimensionality) behind it")
    excluded: int = column("runs or models left out because a quantity is not finite")


class FactorEffect(FamilyComparison):
    """What a factor of the grid does to models of the same seed."""

    factor: str = column("learning_rate or batch_size; the other is held fixed")
    y: str = column("what it changes")
    at: str = column(
        "where models are compared: end of training (equal steps), or at a training loss, to which "
        "each model's checkpoints are interpolated"
    )
    lowest: float = column("lowest level of the factor")
    highest: float = column("highest level")
    estimate: float = column("y at the highest level less y at the lowest, mean over seeds")
    low: float = column("lower end of its t interval over seeds")
    high: float = column("upper end")
    p_value: float = column("two-sided p-value of the interval")
    p_permutation: float = column("two-sided p-value by exchanging the two levels within seeds")
    p_page: float = column("two-sided p-value of Page's trend test over all levels within seeds")
    n: int = column("seeds with a finite y at every level")
    interpolating: int = column("how many of their models interpolate there")
    excluded: int = column("models of other seeds")
    reasons: str = column("why they were left out, with counts; empty for none")


class InterpolatedChange(FamilyComparison):
    """How a quantity changes from a run's first interpolating checkpoint to its last."""

    over: str = column("seeds (mean over the runs of each seed, then over seeds), or run")
    factor: str = column(
        "which runs: those in which the learning_rate, or the batch_size, alone varies; or setting"
    )
    level: str = column("one level of the factor, or all")
    seed: int = column("seed of a run; -1 over seeds")
    sampled: str = column("images measured: train or test")
    y: str = column("which quantity")
    estimate: float = column("the change", convention=CHANGE)
    low: float = column("lower end of its t interval over seeds; nan of a run")
    high: float = column("upper end")
    p_value: float = column("two-sided p-value of the interval")
    rising: int = column("runs in which the quantity is higher at the end")
    runs: int = column("runs used")
    n: int = column("seeds used")
    first_step: int = column("first interpolating checkpoint; over seeds the latest", unit="steps")
    last_step: int = column("end of training", unit="steps")
    excluded: int = column("runs left out")
    reasons: str = column("why they were left out, with counts; empty for none")
