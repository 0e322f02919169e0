"""What a training or measuring job reads: all that determines its numbers, except the seeds."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from flatness.datasets import DatasetName
from flatness.records.frozen import Frozen

Pool = Literal["fcnn", "lenet5", "gat"]
Device = Literal["cpu", "cuda"]
Execution = Literal["loop", "stacked"]


class Ascent(Frozen):
    """Projected gradient ascent of adaptive worst-case sharpness."""

    steps: PositiveInt
    """Gradient steps of one ascent."""
    restarts: Annotated[int, Field(ge=2)]
    """Ascents per model, each on a new batch."""
    batch_size: PositiveInt
    """Training samples in one batch, drawn with replacement."""


class PoolTraining(Frozen):
    """All that determines the trained weights of one pool, apart from the seeds.

    `defects` are names from `defects.TRAINING_DEFECTS[pool]`: the written protocol has none, the
    released one has all. `split` is the train/test split; 0 is that of the report.
    """

    pool: Pool
    dataset: DatasetName
    split: NonNegativeInt = 0
    train_size: PositiveInt | None
    learning_rate: PositiveFloat
    batch_size: PositiveInt
    min_epochs: PositiveInt
    max_epochs: PositiveInt
    tolerance: PositiveFloat
    defects: tuple[str, ...]
    block: PositiveInt
    device: Device
    execution: Execution


class PoolMeasurement(Frozen):
    """All that determines the sharpness measured on trained weights.

    `maximiser` is plain projected ascent or the strong one; `defects` are names from
    `defects.MEASURING_DEFECTS[pool]`. `training_defects` says which data the weights learned.
    """

    pool: Pool
    dataset: DatasetName
    split: NonNegativeInt = 0
    train_size: PositiveInt | None
    training_defects: tuple[str, ...]
    rho: PositiveFloat
    step_size: PositiveFloat
    ascent: Ascent
    maximiser: Literal["plain", "strong"]
    defects: tuple[str, ...]
    seed: NonNegativeInt
    block: PositiveInt
    device: Device
    execution: Execution
