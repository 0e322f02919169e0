"""Columns of the EPFL study's tables."""

from flatness.records.tables import Provenance, column


class TrainedModel(Provenance):
    """One trained model of a pool."""

    pool: str = column("fcnn, lenet5 or gat")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data set is a stand-in made for the demo")
    seed: int = column("seed of initial weights and data order")
    split: int = column("train/test split learned; 0 is that of the report")
    epochs: int = column("epochs trained until the stopping rule held")
    epoch_loss: float = column(
        "mean of the last epoch's minibatch losses, the quantity of the stopping rule"
    )
    train_loss: float = column("loss over the training set, evaluation mode")
    test_loss: float = column("loss over the test set, evaluation mode", symbol="t")
    test_accuracy: float = column("share of test samples classified right; nan for regression")
    diverged: bool = column("whether the loss or a weight stopped being finite")
    reason: str = column("why it diverged; empty otherwise")


class MeasuredModel(Provenance):
    """Adaptive worst-case sharpness of one trained model."""

    pool: str = column("fcnn, lenet5 or gat")
    seed: int = column("seed of the model")
    sharpness: float = column(
        "mean over restarts of the highest loss reached less that at the centre; can be negative",
        symbol="S_max^ρ(w, |w|)",
        convention="the pool's training loss, mean over the batch",
    )
    sharpness_se: float = column("its standard error over restarts; nan where there is one run")
    sharpness_clamped: float = column("the same with δ = 0 as a candidate: never negative")
    restarts: int = column("restarts averaged")
    reason: str = column("why there is no value; empty otherwise")


class PoolModel(Provenance):
    """One point of the scatter of sharpness against test loss; training and measuring made it."""

    pool: str = column("fcnn, lenet5 or gat")
    trained: str = column("training protocol")
    measured: str = column("measuring protocol")
    demo: bool = column("whether the data set is a stand-in made for the demo")
    seed: int = column("seed of the model")
    train_loss: float = column("loss over the training set")
    test_loss: float = column("loss over the test set", symbol="t")
    sharpness: float = column("adaptive worst-case sharpness", symbol="s")
    sharpness_se: float = column("its standard error over restarts")
    used: bool = column("whether the model enters the correlation")
    reason: str = column("why it does not; empty otherwise")


class PoolCorrelation(Provenance):
    """Kendall's τ between sharpness and test loss over one pool."""

    pool: str = column("fcnn, lenet5 or gat")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data set is a stand-in made for the demo")
    trained: str = column("training protocol")
    measured: str = column("measuring protocol")
    sharpness: str = column("which column of the measurements: sharpness or sharpness_clamped")
    tau: float = column("Kendall's τ-b", symbol="τ")
    low: float = column("lower end of its interval: jackknife-t over models on Fisher's z")
    high: float = column("upper end")
    confidence: float = column("level of the interval")
    p_value: float = column("two-sided p-value of the interval")
    p_permutation: float = column("two-sided permutation p-value")
    n: int = column("models in the correlation")
    excluded: int = column("models left out; the models table says why")
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
