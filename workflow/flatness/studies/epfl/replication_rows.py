"""Columns of the tables over replications of a pool."""

from flatness.records.tables import Provenance, Row, column
from flatness.studies.epfl.rows import PoolModel


class ReplicatedModel(PoolModel):
    """One model of one replication."""

    replication: int = column("which replication; 0 is the main pool")
    split: int = column("train/test split learned; 0 is that of the report")


class Replication(Row):
    """Kendall's τ of one replication of a pool."""

    pool: str = column("fcnn, lenet5 or gat")
    demo: bool = column("whether the data are a stand-in made for the demo")
    replication: int = column("which replication; 0 is the main pool")
    tau: float = column(
        "Kendall's τ-b of worst_case_sharpness and test_loss",
        symbol="τ",
        convention="nan where the reason says why",
    )
    low: float = column(
        "lower end of the estimate's interval", convention="jackknife-t over models on Fisher's z"
    )
    high: float = column("upper end")
    p_permutation: float = column("two-sided permutation p-value")
    reliability: float = column(
        "share of the variance of sharpness between models that is not that of their restarts' "
        "means; nan where there is one run"
    )
    tau_corrected: float = column(
        "τ without the noise of restarts, approximately: sin(πτ/2) over √reliability, at most 1, "
        "turned back into a τ"
    )
    split: int = column("train/test split learned; 0 is that of the report")
    n: int = column("how many are behind the row", convention="models")
    excluded: int = column("how many were left out", convention="models; the models table says why")
    reason: str = column(
        "why there is no value, or why it is not used; empty otherwise",
        convention="why there is no τ",
    )


class TauDistribution(Provenance):
    """The sampling distribution of τ over independent replications of one pool."""

    pool: str = column("fcnn, lenet5 or gat")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    train_size: int = column("training images", convention="of a table rows, of a graph nodes")
    trained: str = column("training protocol")
    measured: str = column("measuring protocol")
    measure: str = column("name of the measure")
    mean_tau: float = column("mean of τ over replications", symbol="τ")
    low: float = column(
        "lower end of the estimate's interval",
        convention="of the mean, t over splits where there are several, else over replications; "
        "nan for one",
    )
    high: float = column("upper end")
    p_value: float = column(
        "two-sided p-value that belongs to the interval; nan where there is none",
        convention="the mean's t-test; nan for one replication",
    )
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
    predictive_high: float = column("upper end")
    confidence: float = column("level of the intervals")
    replications: int = column("replications with a τ, R")
    excluded: int = column(
        "how many were left out", convention="replications without a τ; their table says why"
    )
    replication_size: int = column("models in one replication")
    mean_reliability: float = column("mean of reliability over replications")
    mean_tau_corrected: float = column("mean of τ without the noise of restarts, approximately")
    published_tau: float = column("the report's τ for this pool")
    percentile: float = column(
        "where the published τ falls: (k + 1)/(R + 1) for k replications with a τ not above it"
    )
