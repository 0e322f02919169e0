"""Columns of the EPFL study's tables."""

from flatness.records.tables import Provenance, column


class TrainedModel(Provenance):
    """One trained model of a pool."""

    pool: str = column("fcnn, lenet5 or gat")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    train_size: int = column("training images", convention="of a table rows, of a graph nodes")
    seed: int = column("seed of the model: of initial weights and data order")
    split: int = column("train/test split learned; 0 is that of the report")
    epochs: int = column("epochs trained until the stopping rule held")
    epoch_loss: float = column(
        "mean of the last epoch's minibatch losses, the quantity of the stopping rule"
    )
    train_loss: float = column("loss over the training set", convention="evaluation mode")
    test_loss: float = column("loss over the test set", symbol="t", convention="evaluation mode")
    test_accuracy: float = column(
        "share of the test samples classified right", convention="nan for regression"
    )
    diverged: bool = column("whether the loss or a weight stopped being finite")
    reason: str = column(
        "why there is no value, or why it is not used; empty otherwise",
        convention="why training diverged",
    )


class MeasuredModel(Provenance):
    """Adaptive worst-case sharpness of one trained model."""

    pool: str = column("fcnn, lenet5 or gat")
    seed: int = column("seed of the model: of initial weights and data order")
    worst_case_sharpness: float = column(
        "adaptive worst-case sharpness: mean over restarts of the highest loss reached less that "
        "at the centre; can be negative",
        symbol="S_max^ρ(w, |w|)",
        convention="the pool's training loss, mean over the batch",
    )
    worst_case_sharpness_se: float = column(
        "standard error of worst_case_sharpness",
        convention="over restarts; nan where there is one run",
    )
    worst_case_sharpness_clamped: float = column(
        "the same with δ = 0 as a candidate: never negative"
    )
    restarts: int = column("restarts averaged")
    reason: str = column("why there is no value, or why it is not used; empty otherwise")


class PoolModel(Provenance):
    """One point of the scatter of sharpness against test loss; training and measuring made it."""

    pool: str = column("fcnn, lenet5 or gat")
    trained: str = column("training protocol")
    measured: str = column("measuring protocol")
    demo: bool = column("whether the data are a stand-in made for the demo")
    seed: int = column("seed of the model: of initial weights and data order")
    train_loss: float = column("loss over the training set")
    test_loss: float = column("loss over the test set", symbol="t")
    worst_case_sharpness: float = column(
        "adaptive worst-case sharpness: mean over restarts of the highest loss reached "
        "less that at the centre; can be negative",
        symbol="s",
    )
    worst_case_sharpness_se: float = column(
        "standard error of worst_case_sharpness", convention="over restarts"
    )
    used: bool = column("whether the model enters figure and correlations")
    reason: str = column(
        "why there is no value, or why it is not used; empty otherwise",
        convention="why it is not used",
    )


class PoolCorrelation(Provenance):
    """Kendall's τ between sharpness and test loss over one pool."""

    pool: str = column("fcnn, lenet5 or gat")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    train_size: int = column("training images", convention="of a table rows, of a graph nodes")
    trained: str = column("training protocol")
    measured: str = column("measuring protocol")
    measure: str = column("name of the measure")
    tau: float = column("Kendall's τ-b of worst_case_sharpness and test_loss", symbol="τ")
    low: float = column(
        "lower end of the estimate's interval", convention="jackknife-t over models on Fisher's z"
    )
    high: float = column("upper end")
    confidence: float = column("level of the intervals")
    p_value: float = column(
        "two-sided p-value that belongs to the interval; nan where there is none"
    )
    p_permutation: float = column("two-sided permutation p-value")
    n: int = column("how many are behind the row", convention="models")
    excluded: int = column("how many were left out", convention="models; the models table says why")
    reliability: float = column(
        "share of the variance of sharpness between models that is not that of their restarts' "
        "means; nan where there is one run"
    )
    tau_corrected: float = column(
        "τ without the noise of restarts, approximately: sin(πτ/2) over √reliability, at most 1, "
        "turned back into a τ"
    )
    published_tau: float = column("the report's τ for this pool")
    published_p: float = column("the report's p-value")
    published_low: float = column(
        "lower end of the published τ's interval, over the dots read off its figure"
    )
    published_high: float = column("upper end")
