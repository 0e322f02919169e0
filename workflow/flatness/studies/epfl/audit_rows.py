"""Columns of the audit's table."""

from flatness.records.tables import Provenance, column


class AuditedProtocol(Provenance):
    """A pool's models under one protocol, and how that compares with the written one."""

    pool: str = column("fcnn, lenet5 or gat")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    part: str = column("what departs from the written protocol: measuring, training, or both")
    trained: str = column("training protocol")
    measured: str = column("measuring protocol")
    description: str = column("what the protocol does")
    n: int = column("how many are behind the row", convention="models")
    excluded: int = column("how many were left out", convention="models; the models table says why")
    worst_case_sharpness: float = column(
        "adaptive worst-case sharpness: mean over restarts of the highest loss reached "
        "less that at the centre; can be negative",
        convention="mean over models; the pool's training loss",
    )
    worst_case_sharpness_se: float = column(
        "standard error of worst_case_sharpness", convention="over models; nan for one model"
    )
    ratio: float = column("mean sharpness over that of the same seeds under the written protocol")
    ratio_se: float = column("its standard error, models paired by seed")
    test_loss: float = column("loss over the test set", symbol="t", convention="mean over models")
    test_loss_se: float = column("its standard error over models")
    test_accuracy: float = column(
        "share of the test samples classified right",
        convention="mean over models; nan for regression",
    )
    tau: float = column(
        "Kendall's τ-b of worst_case_sharpness and test_loss",
        symbol="τ",
        convention="nan under 3 models",
    )
    low: float = column(
        "lower end of the estimate's interval", convention="jackknife-t over models on Fisher's z"
    )
    high: float = column("upper end")
    confidence: float = column("level of the intervals")
    p_value: float = column(
        "two-sided p-value that belongs to the interval; nan where there is none"
    )
    p_permutation: float = column("two-sided permutation p-value")
    published_tau: float = column("the report's τ for this pool")


class SourceComparison(Provenance):
    """One number of a pool trained and measured as released, beside what its source gives."""

    pool: str = column("fcnn, lenet5 or gat")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    origin: str = column("published figure, or which run of the authors' code")
    compared: str = column(
        "what is compared",
        convention="worst_case_sharpness, test_loss or test_accuracy: mean over models; …_sd: "
        "their standard deviation; tau",
    )
    ours: float = column("our value")
    error: float = column("its standard error; nan for too few models")
    n: int = column("how many are behind the row", convention="models")
    excluded: int = column("how many were left out", convention="models; the models table says why")
    source_value: float = column("the source's")
    source_error: float = column(
        "its standard error, for a figure with that of reading it; ours where it is not known"
    )
    source_n: int = column("models behind it, or dots that could be told apart")
    z: float = column("ours less the source's, in standard errors of the difference")
    differs: bool = column("whether |z| exceeds 3; never on made-up data")


class PublishedRange(Provenance):
    """Mean or spread of one quantity over a pool, as a multiple of the published scatter's."""

    pool: str = column("fcnn, lenet5 or gat")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    train_size: int = column("training images", convention="of a table rows, of a graph nodes")
    trained: str = column("training protocol")
    measured: str = column("measuring protocol")
    compared: str = column(
        "what is compared",
        convention="worst_case_sharpness, test_loss: mean over models; …_sd: their standard "
        "deviation",
    )
    ours: float = column("our value")
    source_value: float = column("the source's")
    ratio_to_source: float = column("ours over the source's")
    low: float = column(
        "lower end of the estimate's interval", convention="t, to first order in both errors"
    )
    high: float = column("upper end")
    p_value: float = column(
        "two-sided p-value that belongs to the interval; nan where there is none",
        convention="of a ratio of 1",
    )
    confidence: float = column("level of the intervals")
    n: int = column("how many are behind the row", convention="models")
    excluded: int = column("how many were left out", convention="models; the models table says why")
