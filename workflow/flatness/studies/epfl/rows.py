"""Columns of the EPFL study's tables."""

from flatness.records.tables import Provenance, Row, column
from flatness.studies import words


class TrainedModel(Provenance):
    """One trained model of a pool."""

    pool: str = column(words.POOL)
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    train_size: int = column(words.TRAIN_SIZE, convention="of a table rows, of a graph nodes")
    seed: int = column(words.SEED)
    split: int = column(words.SPLIT)
    epochs: int = column("epochs trained until the stopping rule held")
    epoch_loss: float = column(
        "mean of the last epoch's minibatch losses, the quantity of the stopping rule"
    )
    train_loss: float = column(words.TRAIN_LOSS, convention="evaluation mode")
    test_loss: float = column(words.TEST_LOSS, symbol="t", convention="evaluation mode")
    test_accuracy: float = column(words.TEST_ACCURACY, convention="nan for regression")
    diverged: bool = column(words.DIVERGED)
    reason: str = column(words.REASON, convention="why training diverged")


class MeasuredModel(Provenance):
    """Adaptive worst-case sharpness of one trained model."""

    pool: str = column(words.POOL)
    seed: int = column(words.SEED)
    worst_case_sharpness: float = column(
        words.WORST_CASE_SHARPNESS,
        symbol="S_max^ρ(w, |w|)",
        convention="the pool's training loss, mean over the batch",
    )
    worst_case_sharpness_se: float = column(
        words.WORST_CASE_SHARPNESS_SE, convention="over restarts; nan where there is one run"
    )
    worst_case_sharpness_clamped: float = column(
        "the same with δ = 0 as a candidate: never negative"
    )
    restarts: int = column("restarts averaged")
    reason: str = column(words.REASON)


class PoolModel(Provenance):
    """One point of the scatter of sharpness against test loss; training and measuring made it."""

    pool: str = column(words.POOL)
    trained: str = column(words.TRAINED)
    measured: str = column(words.MEASURED)
    demo: bool = column(words.DEMO)
    seed: int = column(words.SEED)
    train_loss: float = column(words.TRAIN_LOSS)
    test_loss: float = column(words.TEST_LOSS, symbol="t")
    worst_case_sharpness: float = column(words.WORST_CASE_SHARPNESS, symbol="s")
    worst_case_sharpness_se: float = column(
        words.WORST_CASE_SHARPNESS_SE, convention="over restarts"
    )
    used: bool = column(words.USED)
    reason: str = column(words.REASON, convention="why it is not used")


class PoolCorrelation(Provenance):
    """Kendall's τ between sharpness and test loss over one pool."""

    pool: str = column(words.POOL)
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    train_size: int = column(words.TRAIN_SIZE, convention="of a table rows, of a graph nodes")
    trained: str = column(words.TRAINED)
    measured: str = column(words.MEASURED)
    measure: str = column(words.MEASURE)
    tau: float = column(words.TAU, symbol="τ")
    low: float = column(words.LOW, convention="jackknife-t over models on Fisher's z")
    high: float = column(words.HIGH)
    confidence: float = column(words.CONFIDENCE)
    p_value: float = column(words.P_VALUE)
    p_permutation: float = column(words.P_PERMUTATION)
    n: int = column(words.N, convention="models")
    excluded: int = column(words.EXCLUDED, convention="models; the models table says why")
    reliability: float = column(words.RELIABILITY)
    tau_corrected: float = column(words.TAU_CORRECTED)
    published_tau: float = column(words.PUBLISHED_TAU)
    published_p: float = column("the report's p-value")
    published_low: float = column(
        "lower end of the published τ's interval, over the dots read off its figure"
    )
    published_high: float = column(words.HIGH)


# Of replications.


class ReplicatedModel(PoolModel):
    """One model of one replication."""

    replication: int = column(words.REPLICATION)
    split: int = column(words.SPLIT)


class Replication(Row):
    """Kendall's τ of one replication of a pool."""

    pool: str = column(words.POOL)
    demo: bool = column(words.DEMO)
    replication: int = column(words.REPLICATION)
    tau: float = column(words.TAU, symbol="τ", convention="nan where the reason says why")
    low: float = column(words.LOW, convention="jackknife-t over models on Fisher's z")
    high: float = column(words.HIGH)
    p_permutation: float = column(words.P_PERMUTATION)
    reliability: float = column(words.RELIABILITY)
    tau_corrected: float = column(words.TAU_CORRECTED)
    split: int = column(words.SPLIT)
    n: int = column(words.N, convention="models")
    excluded: int = column(words.EXCLUDED, convention="models; the models table says why")
    reason: str = column(words.REASON, convention="why there is no τ")


class TauDistribution(Provenance):
    """The sampling distribution of τ over independent replications of one pool."""

    pool: str = column(words.POOL)
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    train_size: int = column(words.TRAIN_SIZE, convention="of a table rows, of a graph nodes")
    trained: str = column(words.TRAINED)
    measured: str = column(words.MEASURED)
    measure: str = column(words.MEASURE)
    mean_tau: float = column("mean of τ over replications", symbol="τ")
    low: float = column(
        words.LOW,
        convention="of the mean, t over splits where there are several, else over replications; "
        "nan for one",
    )
    high: float = column(words.HIGH)
    p_value: float = column(words.P_VALUE, convention="the mean's t-test; nan for one replication")
    sd: float = column(
        "standard deviation of τ between replications, on any splits; nan for one replication"
    )
    splits: int = column("train/test splits with a τ")
    split_sd: float = column(
        "standard deviation of τ between splits, that of replications on one split taken off; nan "
        "for one split, or one replication a split"
    )
    predictive_low: float = column(
        "lower end of the interval of one more replication's τ, on one more split where there are "
        "several: mean ± t √(s² + the mean's squared standard error)"
    )
    predictive_high: float = column(words.HIGH)
    confidence: float = column(words.CONFIDENCE)
    replications: int = column("replications with a τ, R")
    excluded: int = column(
        words.EXCLUDED, convention="replications without a τ; their table says why"
    )
    replication_size: int = column("models in one replication")
    mean_reliability: float = column("mean of reliability over replications")
    mean_tau_corrected: float = column("mean of τ without the noise of restarts, approximately")
    published_tau: float = column(words.PUBLISHED_TAU)
    percentile: float = column(
        "where the published τ falls: (k + 1)/(R + 1) for k replications with a τ not above it"
    )


# Of the audit.


class AuditedProtocol(Provenance):
    """A pool's models under one protocol, and how that compares with the written one."""

    pool: str = column(words.POOL)
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    part: str = column("what departs from the written protocol: measuring, training, or both")
    trained: str = column(words.TRAINED)
    measured: str = column(words.MEASURED)
    description: str = column("what the protocol does")
    n: int = column(words.N, convention="models")
    excluded: int = column(words.EXCLUDED, convention="models; the models table says why")
    worst_case_sharpness: float = column(
        words.WORST_CASE_SHARPNESS, convention="mean over models; the pool's training loss"
    )
    worst_case_sharpness_se: float = column(
        words.WORST_CASE_SHARPNESS_SE, convention="over models; nan for one model"
    )
    ratio: float = column("mean sharpness over that of the same seeds under the written protocol")
    ratio_se: float = column("its standard error, models paired by seed")
    test_loss: float = column(words.TEST_LOSS, symbol="t", convention="mean over models")
    test_loss_se: float = column("its standard error over models")
    test_accuracy: float = column(
        words.TEST_ACCURACY, convention="mean over models; nan for regression"
    )
    tau: float = column(words.TAU, symbol="τ", convention="nan under 3 models")
    low: float = column(words.LOW, convention="jackknife-t over models on Fisher's z")
    high: float = column(words.HIGH)
    confidence: float = column(words.CONFIDENCE)
    p_value: float = column(words.P_VALUE)
    p_permutation: float = column(words.P_PERMUTATION)
    published_tau: float = column(words.PUBLISHED_TAU)


class SourceComparison(Provenance):
    """One number of a pool trained and measured as released, beside what its source gives."""

    pool: str = column(words.POOL)
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    origin: str = column("published figure, or which run of the authors' code")
    compared: str = column(
        words.COMPARED,
        convention="worst_case_sharpness, test_loss or test_accuracy: mean over models; …_sd: "
        "their standard deviation; tau",
    )
    ours: float = column("our value")
    error: float = column("its standard error; nan for too few models")
    n: int = column(words.N, convention="models")
    excluded: int = column(words.EXCLUDED, convention="models; the models table says why")
    source_value: float = column("the source's")
    source_error: float = column(
        "its standard error, for a figure with that of reading it; ours where it is not known"
    )
    source_n: int = column("models behind it, or dots that could be told apart")
    z: float = column("ours less the source's, in standard errors of the difference")
    differs: bool = column("whether |z| exceeds 3; never on made-up data")


class PublishedRange(Provenance):
    """Mean or spread of one quantity over a pool, as a multiple of the published scatter's."""

    pool: str = column(words.POOL)
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    train_size: int = column(words.TRAIN_SIZE, convention="of a table rows, of a graph nodes")
    trained: str = column(words.TRAINED)
    measured: str = column(words.MEASURED)
    compared: str = column(
        words.COMPARED,
        convention="worst_case_sharpness, test_loss: mean over models; …_sd: their standard "
        "deviation",
    )
    ours: float = column("our value")
    source_value: float = column("the source's")
    ratio_to_source: float = column("ours over the source's")
    low: float = column(words.LOW, convention="t, to first order in both errors")
    high: float = column(words.HIGH)
    p_value: float = column(words.P_VALUE, convention="of a ratio of 1")
    confidence: float = column(words.CONFIDENCE)
    n: int = column(words.N, convention="models")
    excluded: int = column(words.EXCLUDED, convention="models; the models table says why")


# Of the factorial.


class CrossedModel(PoolModel):
    """One model under one combination of defects; combinations are names joined by +."""

    dataset: str = column(words.DATASET)
    test_accuracy: float = column(words.TEST_ACCURACY, convention="nan for regression")


class Combination(Provenance):
    """A pool under one combination of training and of measuring defects."""

    pool: str = column(words.POOL)
    dataset: str = column(words.DATASET)
    demo: bool = column(words.DEMO)
    trained: str = column(words.TRAINED, convention="written, released, or defects joined by +")
    measured: str = column(
        words.MEASURED,
        convention="written, released, defects joined by +; mixed_pools: weights after the ascent "
        "of a pool trained at the report's learning rate, centres of the released one",
    )
    n: int = column(words.N, convention="models")
    excluded: int = column(words.EXCLUDED, convention="models; the models table says why")
    tau: float = column(words.TAU, symbol="τ", convention="nan under 3 models")
    tau_se: float = column("its standard error, jackknife over models")
    mean_sharpness: float = column(
        "mean of worst_case_sharpness over models", convention="the pool's training loss"
    )
    mean_sharpness_se: float = column("standard error of mean_sharpness")
    mean_test_loss: float = column("mean of test_loss over models", symbol="t")
    mean_test_loss_se: float = column("standard error of mean_test_loss")
    tau_z: float = column("τ less the published figure's, in standard errors of the difference")
    mean_sharpness_z: float = column("the same of mean sharpness")
    mean_test_loss_z: float = column("the same of mean test loss")
    matches: bool = column("whether all three |z| are at most 3; never on made-up data")


class DefectEffect(Provenance):
    """What a defect, two of them or all do to a pool, averaged over the other defects."""

    pool: str = column(words.POOL)
    demo: bool = column(words.DEMO)
    combined: str = column("whose defects are combined: training or measuring")
    other: str = column("protocol of the other part: written or released")
    effect_kind: str = column(
        "main: with the defect less without, mean over the other defects; interaction: half the "
        "difference of one defect's effect with and without the other; alone: the defect by itself "
        "less none; sum alone: of all of these; together: all defects less none"
    )
    defects: str = column("a defect, or two joined by ×; empty for all")
    compared: str = column(words.COMPARED, convention="tau, mean_sharpness, mean_test_loss")
    effect: float = column("the difference")
    low: float = column(words.LOW, convention="jackknife over models")
    high: float = column(words.HIGH)
    confidence: float = column(words.CONFIDENCE)
    n: int = column(words.N, convention="models")
