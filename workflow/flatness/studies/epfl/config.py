"""Settings of the EPFL replication: pools of models, protocols, and the released code's defects."""

from collections.abc import Iterable
from itertools import chain, combinations
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from flatness.datasets import DATASETS, DatasetName
from flatness.records.frozen import Frozen, seed_blocks

Pool = Literal["fcnn", "lenet5", "gat"]
Device = Literal["cpu", "cuda"]
Execution = Literal["loop", "stacked"]
TrainingProtocol = Literal["written", "released"]

#: What kind of data each pool learns.
KINDS = {"fcnn": "table", "lenet5": "images", "gat": "graph"}

#: What the released notebooks do in training that the report does not say, by pool.
TRAINING_DEFECTS: dict[str, dict[str, str]] = {
    "fcnn": {
        "elu_output": "ELU after every layer, the output included, in place of ReLU",
        "found_learning_rate": "learning rate 0.102 from a learning-rate finder",
        "full_batch_steps": "each minibatch step uses the full training set",
        "lost_row": "the first row of the file is read as a header",
        "default_init": "PyTorch's default initial weights in place of Xavier's",
        "signed_stopping": "one warm-up epoch, then a signed drop under 5 % stops; at most 12",
    },
    "lenet5": {
        "default_init": "PyTorch's default initial weights in place of Xavier's",
        "weight_decay": "weight decay 5e-3",
        "evaluation_mode": "no dropout and frozen batch norm from the second epoch on",
    },
    "gat": {
        "late_stopping": "training may stop from one epoch later on than the report says",
    },
}

#: The learning rate of the defect `found_learning_rate`.
FOUND_LEARNING_RATE = 0.102

#: What the released notebooks do in measuring that the report does not say, by pool.
MEASURING_DEFECTS: dict[str, dict[str, str]] = {
    "fcnn": {
        "missing_absolute_value": "box w ± ρw: for negative weights both bounds are swapped",
        "full_batches": "6 passes of 53 steps on the full training set, no restarts",
        "end_of_pass": "keeps the end of the pass with the largest loss sum, not the largest loss",
    },
    "lenet5": {
        "moved_centre": "the saved centre shares storage: the first step moves it",
        "train_batch_norm": "batch norm normalises by the batch and moves its statistics",
        "train_dropout": "dropout is on during the ascent",
        "whole_set": "one ascent of 5 epochs over all images; the best epoch's loss on all images",
    },
    "gat": {
        "train_dropout": "dropout is on in the ascent and in both losses",
        "single_draw": "the loss at the centre is drawn once, not once a restart",
        "collapsed_masks": "a batch is a mask of nodes, so nodes drawn twice count once",
        "mismatched_loss": "climbs on one batch of 64, scores the sum of 3 new batches of all 140",
        "five_restarts": "5 restarts in place of 50",
    },
}


class Ascent(Frozen):
    """Projected gradient ascent of adaptive worst-case sharpness."""

    steps: PositiveInt
    """Gradient steps of one ascent."""
    restarts: Annotated[int, Field(ge=2)]
    """Ascents a model, each on a new batch."""
    batch_size: PositiveInt
    """Training samples in one batch, drawn with replacement."""


class PoolSettings(Frozen):
    """One pool: models that differ in initial weights and data order only."""

    dataset: DatasetName
    """Data of the pool: a table for `fcnn`, images for `lenet5`, a graph for `gat`."""
    models: PositiveInt
    """Models of the pool."""
    block: PositiveInt
    """Models that one job trains and measures."""
    learning_rate: PositiveFloat
    """Learning rate of training, and step size of the ascent."""
    rho: PositiveFloat
    """Radius ρ: each weight w moves by ρ|w| at most."""
    batch_size: PositiveInt
    """Samples a step."""
    min_epochs: PositiveInt
    """Epochs before training may stop."""
    max_epochs: PositiveInt
    """Epochs after which training stops."""
    train_size: PositiveInt | None = None
    """Training samples; null takes all."""
    execution: Execution
    """Whether a job's models take each step together or one after the other."""
    ascent: Ascent
    """How the maximum is searched."""

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
    """Training stops when the epoch's mean loss moves less than this, relatively."""
    pools: dict[Pool, PoolSettings]
    """Pools of models, by name."""

    @model_validator(mode="after")
    def _datasets_fit(self) -> "EpflSettings":
        for pool, settings in self.pools.items():
            if DATASETS[settings.dataset] != KINDS[pool]:
                fit = [name for name, kind in DATASETS.items() if kind == KINDS[pool]]
                raise ValueError(f"pool {pool} cannot use {settings.dataset}; use one of {fit}")
        return self


class PoolTraining(Frozen):
    """All that determines the trained weights of one pool, apart from the seeds.

    `defects` are names from `TRAINING_DEFECTS[pool]`: none is the written protocol, all the
    released one. `split` is the train/test split, 0 that of the report.
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
    `MEASURING_DEFECTS[pool]`. `training_defects` says which data the weights were trained on.
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


def training(settings: EpflSettings, pool: str, protocol: str, device: str) -> PoolTraining:
    """The training slice of one pool under "written", "released" or defects joined by +."""
    chosen = settings.pools[pool]
    defects = defects_of(TRAINING_DEFECTS[pool], protocol)
    return PoolTraining(
        pool=pool,
        dataset=chosen.dataset,
        train_size=chosen.train_size,
        learning_rate=_learning_rate(chosen, defects),
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
        step_size=_learning_rate(chosen, trained_with),
        ascent=chosen.ascent,
        maximiser="strong" if strong else "plain",
        defects=() if strong else defects_of(MEASURING_DEFECTS[pool], measured),
        seed=0,
        block=chosen.block,
        device=device,
        execution=chosen.execution,
    )


def training_protocols() -> list[str]:
    """Names of all training protocols: written, released, and each defect alone."""
    return ["written", "released", *(name for known in TRAINING_DEFECTS.values() for name in known)]


def measuring_protocols() -> list[str]:
    """Names of all measuring protocols: written, released, strong, and each defect alone."""
    alone = (name for known in MEASURING_DEFECTS.values() for name in known)
    return ["written", "released", "strong", *alone]


def combinations_of(known: Iterable[str]) -> list[str]:
    """Names of all protocols that some defects make: "written", "a", …, "a+b", …, "released"."""
    known = tuple(known)
    chosen = chain.from_iterable(combinations(known, size) for size in range(1, len(known)))
    middle = ["+".join(names) for names in chosen]
    return ["written", *middle, "released"] if known else ["written"]


def crossed(pool: str) -> dict[str, list[str]]:
    """Training protocols of a pool's factorial, each with the measuring ones that it meets."""
    trainings = combinations_of(TRAINING_DEFECTS[pool])
    measurings = combinations_of(MEASURING_DEFECTS[pool])
    ends = {"written", "released"}
    return {
        trained: measurings if trained in ends else [m for m in measurings if m in ends]
        for trained in trainings
    }


def defects_of(known: Iterable[str], protocol: str) -> tuple[str, ...]:
    """The defects of a protocol by its name: "written", "released", or names joined by +."""
    if protocol == "written":
        return ()
    return tuple(known) if protocol == "released" else tuple(protocol.split("+"))


def _learning_rate(chosen: PoolSettings, training_defects: tuple[str, ...]) -> float:
    """Of training, and so of the plain ascent."""
    found = "found_learning_rate" in training_defects
    return FOUND_LEARNING_RATE if found else chosen.learning_rate
