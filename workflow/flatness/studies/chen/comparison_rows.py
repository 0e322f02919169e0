"""Columns of the tables of comparisons within a family."""

from flatness.records.tables import Provenance, column

CHANGE = "log volume: the difference; other quantities: the natural logarithm of the ratio"


class FamilyComparison(Provenance):
    """What every comparison says first."""

    family: str = column("family of models", convention="as in the config")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    train_size: int = column("training images")
    steps: int = column("steps of the longest training", unit="steps")
    confidence: float = column("level of the intervals")


class Contrast(FamilyComparison):
    """One quantity of a family less another."""

    contrast: str = column(
        "c_to_d_gap: log10(D/C) less the larger of log10(B/A) and log10(C/B), mean over the "
        "checkpoints of each run, over the runs of each seed, then over seeds; c_to_d_difference: "
        "likewise D − C less the larger of B − A and C − B, in units of A; "
        "mls_over_dimensionality: |r(√S, MLS)| less |r(√S, local dimensionality)| over models at "
        "the end of training, Pearson's r"
    )
    estimate: float = column(
        "what was found: a coefficient, a difference, a change or a count; nan where there is none",
        convention="the difference; nan below 3 models",
    )
    low: float = column(
        "lower end of the estimate's interval", convention="over seeds: t, or jackknife-t"
    )
    high: float = column("upper end")
    p_value: float = column(
        "two-sided p-value that belongs to the interval; nan where there is none"
    )
    n: int = column(
        "how many are behind the row",
        convention="seeds (gap and difference) or models (mls_over_dimensionality)",
    )
    excluded: int = column(
        "how many were left out", convention="runs or models with a quantity that is not finite"
    )


class FactorEffect(FamilyComparison):
    """What a factor of the grid does to models of the same seed."""

    factor: str = column(
        "what varies between the runs: learning_rate or batch_size, the other held fixed; "
        "or setting"
    )
    y: str = column("which quantity; of a pair the other one", convention="what the factor changes")
    at: str = column(
        "where models are compared: end of training (equal steps), or at a training loss, "
        "to which each model's checkpoints are interpolated; over checkpoints: along "
        "training"
    )
    lowest: float = column("lowest level of the factor")
    highest: float = column("highest level")
    estimate: float = column(
        "what was found: a coefficient, a difference, a change or a count; nan where there is none",
        convention="y at the highest level less y at the lowest, mean over seeds",
    )
    low: float = column("lower end of the estimate's interval", convention="t over seeds")
    high: float = column("upper end")
    p_value: float = column(
        "two-sided p-value that belongs to the interval; nan where there is none"
    )
    p_permutation: float = column(
        "two-sided permutation p-value", convention="the two levels exchanged within seeds"
    )
    p_page: float = column("two-sided p-value of Page's trend test over all levels within seeds")
    n: int = column(
        "how many are behind the row", convention="seeds with a finite y at every level"
    )
    interpolating: int = column(
        "how many models or runs interpolate",
        convention="models of the n seeds, where they are compared",
    )
    excluded: int = column("how many were left out", convention="models of other seeds")
    reasons: str = column(
        "why some were left out, or why there is no estimate; empty for none",
        convention="with counts",
    )


class InterpolatedChange(FamilyComparison):
    """How a quantity changes from a run's first interpolating checkpoint to its last."""

    over: str = column(
        "what it is taken over: models, settings (within each seed, then averaged over "
        "seeds), seeds (within each setting, then averaged over settings), checkpoints "
        "(within each run, then averaged over the runs of each seed, then over seeds), or "
        "run (one run alone)",
        convention="seeds: mean over the runs of each seed, then over seeds",
    )
    factor: str = column(
        "what varies between the runs: learning_rate or batch_size, the other held fixed; "
        "or setting"
    )
    level: str = column("one level of the factor, or all")
    seed: int = column(
        "seed of the model: of initial weights and data order", convention="-1 over seeds"
    )
    sampled: str = column("images measured: train, test, or misclassified (test images)")
    y: str = column("which quantity; of a pair the other one")
    estimate: float = column(
        "what was found: a coefficient, a difference, a change or a count; nan where there is none",
        convention=f"the change; {CHANGE}",
    )
    low: float = column(
        "lower end of the estimate's interval", convention="t over seeds; nan of a run"
    )
    high: float = column("upper end")
    p_value: float = column(
        "two-sided p-value that belongs to the interval; nan where there is none"
    )
    rising: int = column("runs in which the quantity is higher at the end")
    runs: int = column("runs used")
    n: int = column("how many are behind the row", convention="seeds")
    first_step: int = column("first interpolating checkpoint; over seeds the latest", unit="steps")
    last_step: int = column("end of training", unit="steps")
    excluded: int = column("how many were left out", convention="runs")
    reasons: str = column(
        "why some were left out, or why there is no estimate; empty for none",
        convention="with counts",
    )
