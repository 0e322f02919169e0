"""Columns of the factorial's tables."""

from flatness.records.tables import Provenance, column
from flatness.studies.epfl.rows import PoolModel

#: What is compared with the published figure, cell by cell.
QUANTITIES = ("tau", "worst_case_sharpness", "test_loss")


class CrossedModel(PoolModel):
    """One model under one combination of defects; combinations are names joined by +."""

    dataset: str = column("name of the data set")
    test_accuracy: float = column("share of test samples classified right; nan for regression")


class Combination(Provenance):
    """A pool under one combination of training and of measuring defects."""

    pool: str = column("fcnn, lenet5 or gat")
    dataset: str = column("name of the data set")
    demo: bool = column("whether the data set is a stand-in made for the demo")
    trained: str = column("training protocol: written, released, or defects joined by +")
    measured: str = column("measuring protocol, likewise")
    n: int = column("models behind the row")
    excluded: int = column("models left out; the models table says why")
    tau: float = column("Kendall's τ-b of sharpness and test loss; nan under 3 models", symbol="τ")
    tau_se: float = column("its standard error, jackknife over models")
    worst_case_sharpness: float = column("mean over models", convention="the pool's training loss")
    worst_case_sharpness_se: float = column("its standard error over models")
    test_loss: float = column("mean over models", symbol="t")
    test_loss_se: float = column("its standard error over models")
    tau_z: float = column("τ less the published figure's, in standard errors of the difference")
    sharpness_z: float = column("the same of mean sharpness")
    test_loss_z: float = column("the same of mean test loss")
    matches: bool = column("whether all three |z| are at most 3; never on made-up data")


class DefectEffect(Provenance):
    """What a defect, two of them or all do to a pool, averaged over the other defects."""

    pool: str = column("fcnn, lenet5 or gat")
    demo: bool = column("whether the data set is a stand-in made for the demo")
    part: str = column("whose defects are combined: training or measuring")
    other: str = column("protocol of the other part: written or released")
    kind: str = column(
        "main: with the defect less without, mean over the other defects; interaction: half the "
        "difference of one defect's effect with and without the other; alone: the defect by itself "
        "less none; sum alone: of all of these; together: all defects less none"
    )
    defects: str = column("a defect, or two joined by ×; empty for all")
    quantity: str = column("tau, or the mean of sharpness or test_loss")
    effect: float = column("the difference")
    low: float = column("lower end of its interval, jackknife over models")
    high: float = column("upper end")
    confidence: float = column("level of the interval")
    n: int = column("models")
