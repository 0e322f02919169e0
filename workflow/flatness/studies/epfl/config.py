"""Settings of the EPFL replication: pools of models and their protocols."""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt, model_validator

from flatness.datasets import DATASETS, DatasetName
from flatness.records.frozen import Frozen, seed_blocks
from flatness.studies.epfl.defects import MEASURING_DEFECTS, TRAINING_DEFECTS, defects_of
from flatness.studies.epfl.defects.fcnn import learning_rate
from flatness.studies.epfl.slices import Ascent, Execution, Pool, PoolMeasurement, PoolTraining

TrainingProtocol = Literal["written", "released"]

#: What kind of data each pool learns.
KINDS = {"fcnn": "table", "lenet5": "images", "gat": "graph"}


class PoolSettings(Frozen):
    """One pool: models that differ only in initial weights and data order."""

    dataset: DatasetName
    """Data of the pool: a table for `fcnn`, images for `lenet5`, a graph for `gat`."""
    models: PositiveInt
    """Number of models."""
    block: PositiveInt
    """Models that one job trains and measures."""
    learning_rate: PositiveFloat
    """Learning rate of training, and step size of the ascent."""
    rho: PositiveFloat
    """Radius ρ: each weight w moves by at most ρ|w|."""
    batch_size: PositiveInt
    """Samples per step."""
    min_epochs: PositiveInt
    """Epochs before training may stop."""
    max_epochs: PositiveInt
    """Epochs after which training stops."""
    train_size: PositiveInt | None = None
    """Training samples; null takes all."""
    execution: Execution
    """Models of a job train together, step by step (`stacked`), or one after the other (`loop`)."""
    ascent: Ascent
    """How the maximum is searched for."""

    @model_validator(mode="after")
    def _epochs_are_ordered(self) -> "PoolSettings":
        if self.min_epochs > self.max_epochs:
            raise ValueError(f"min_epochs {self.min_epochs} exceeds max_epochs {self.max_epochs}")
        return self

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks of seeds."""
        return seed_blocks(self.models, self.block)


class EpflSettings(Frozen):
    """The whole study."""

    protocol: TrainingProtocol
    """The protocol of the report, or that of the published notebooks with their defects."""
    tolerance: PositiveFloat
    """Training stops when the epoch's mean loss changes by less than this, relatively."""
    pools: dict[Pool, PoolSettings]
    """Pools of models, by name."""

    @model_validator(mode="after")
    def _datasets_fit(self) -> "EpflSettings":
        for pool, settings in self.pools.items():
            if DATASETS[settings.dataset] != KINDS[pool]:
                fit = [name for name, kind in DATASETS.items() if kind == KINDS[pool]]
                raise ValueError(f"pool {pool} cannot use {settings.dataset}; use one of {fit}")
        return self


def training(settings: EpflSettings, pool: str, protocol: str, device: str) -> PoolTraining:
    """The training slice of one pool under "written", "released" or defects joined by +."""
    chosen = settings.pools[pool]
    defects = defects_of(TRAINING_DEFECTS[pool], protocol)
    return PoolTraining(
        pool=pool,
        dataset=chosen.dataset,
        train_size=chosen.train_size,
        learning_rate=learning_rate(chosen.learning_rate, defects),
        batch_size=chosen.batch_size,
        min_epochs=chosen.min_epochs,
        max_epochs=chosen.max_epochs,
        tolerance=settings.tolerance,
        defects=defects,
        block=chosen.block,
        device=device,
        execution=chosen.execution,
    )


def measurement(
    settings: EpflSettings, pool: str, trained: str, measured: str, device: str
) -> PoolMeasurement:
    """The measuring slice of one pool.

    Args:
        settings: the study.
        pool: name of the pool.
        trained: training protocol: "written", "released" or training defects joined by +.
        measured: measuring protocol: the same, or "strong".
        device: kind of device.

    Returns:
        The slice.
    """
    chosen = settings.pools[pool]
    trained_with = defects_of(TRAINING_DEFECTS[pool], trained)
    strong = measured == "strong"
    return PoolMeasurement(
        pool=pool,
        dataset=chosen.dataset,
        train_size=chosen.train_size,
        training_defects=trained_with,
        rho=chosen.rho,
        step_size=learning_rate(chosen.learning_rate, trained_with),
        ascent=chosen.ascent,
        maximiser="strong" if strong else "plain",
        defects=() if strong else defects_of(MEASURING_DEFECTS[pool], measured),
        seed=0,
        block=chosen.block,
        device=device,
        execution=chosen.execution,
    )
