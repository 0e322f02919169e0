"""Columns of the factorial's tables."""

from flatness.records.tables import Provenance, column
from flatness.studies.epfl.rows import PoolModel

#: What is compared with the published figure, cell by cell -> the source's name of it.
QUANTITIES = {"tau": "tau", "mean_sharpness": "worst_case_sharpness", "mean_test_loss": "test_loss"}


class CrossedModel(PoolModel):
    """One model under one combination of defects; combinations are names joined by +."""

    dataset: str = column("name of the data set")
    test_accuracy: float = column(
        "share of the test samples classified right", convention="nan for regression"
    )


class Combination(Provenance):
    """A pool under one combination of training and of measuring defects."""

    pool: str = column("fcnn, lenet5 or gat")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data are a stand-in made for the demo")
    trained: str = column(
        "training protocol", convention="written, released, or defects joined by +"
    )
    measured: str = column(
        "measuring protocol",
        convention="written, released, defects joined by +; mixed_pools: weights after the ascent "
        "of a pool trained at the report's learning rate, centres of the released one",
    )
    n: int = column("how many are behind the row", convention="models")
    excluded: int = column("how many were left out", convention="models; the models table says why")
    tau: float = column(
        "Kendall's τ-b of worst_case_sharpness and test_loss",
        symbol="τ",
        convention="nan under 3 models",
    )
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

    pool: str = column("fcnn, lenet5 or gat")
    demo: bool = column("whether the data are a stand-in made for the demo")
    combined: str = column("whose defects are combined: training or measuring")
    other: str = column("protocol of the other part: written or released")
    effect_kind: str = column(
        "main: with the defect less without, mean over the other defects; interaction: half the "
        "difference of one defect's effect with and without the other; alone: the defect by itself "
        "less none; sum alone: of all of these; together: all defects less none"
    )
    defects: str = column("a defect, or two joined by ×; empty for all")
    compared: str = column("what is compared", convention="tau, mean_sharpness, mean_test_loss")
    effect: float = column("the difference")
    low: float = column("lower end of the estimate's interval", convention="jackknife over models")
    high: float = column("upper end")
    confidence: float = column("level of the intervals")
    n: int = column("how many are behind the row", convention="models")
