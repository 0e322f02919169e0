"""Settings of the compression study: families of networks, their grid, what is measured."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from flatness.datasets import DATASETS
from flatness.networks import NAMES
from flatness.records.frozen import Frozen, seed_blocks, seeds_of


def _known_network(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"choose from {', '.join(NAMES)}")
    return name


Network = Annotated[str, AfterValidator(_known_network)]
Activation = Literal["relu", "tanh"]
Device = Literal["cpu", "cuda"]
ImageDataset = Literal[tuple(name for name, kind in DATASETS.items() if kind == "images")]


class Setting(Frozen):
    """One point of the grid: how models are trained.

    The seeds of a setting are counted from `first_seed`. Settings with the same `first_seed` share
    initial weights and data order, so that models of one seed differ only by their setting.
    Settings with different seeds give independent models, as in the authors' grid.
    """

    learning_rate: PositiveFloat
    """Learning rate."""
    batch_size: PositiveInt
    """Samples per step."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """Optimizer."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Momentum of `sgd`."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay."""
    first_seed: NonNegativeInt = 0
    """The first seed; settings with the same first seed share initial weights and data order."""
    iterations: PositiveInt | None = None
    """Steps of training, if more than the family's; null takes the family's."""

    @model_validator(mode="after")
    def _momentum_is_sgds(self) -> "Setting":
        if self.optimizer == "adam" and self.momentum:
            raise ValueError("momentum belongs to sgd; adam has its own")
        return self

    @property
    def name(self) -> str:
        """The setting in a path, such as "lr0.1_batch20" or "lr0.01_batch20_momentum0.9"."""
        parts = [f"lr{self.learning_rate:g}", f"batch{self.batch_size}"]
        parts += [self.optimizer] * (self.optimizer != "sgd")
        parts += [f"momentum{self.momentum:g}"] * (self.momentum > 0)
        parts += [f"decay{self.weight_decay:g}"] * (self.weight_decay > 0)
        return "_".join(parts)

    def seeds(self, block: str) -> range:
        """The seeds of the models of a block, such as "0-4"."""
        counted = seeds_of(block)
        return range(self.first_seed + counted.start, self.first_seed + counted.stop)


class Checkpoints(Frozen):
    """The steps at which weights are kept: step 0, then some steps up to the last.

    With `losses`, the weights of every seed are also kept when the training loss is first seen at
    or below each of these values, and when the model first interpolates.
    """

    schedule: Literal["even", "logarithmic"]
    """Kept steps are equally far apart (`even`) or grow by a factor (`logarithmic`)."""
    count: PositiveInt
    """Number of kept steps after step 0."""
    losses: tuple[PositiveFloat, ...] = ()
    """Training losses; weights are also kept when each of them is first reached."""

    def steps(self, iterations: int) -> tuple[int, ...]:
        """The schedule's steps, ascending, 0 and `iterations` among them.

        Args:
            iterations: steps of the whole training.

        Returns:
            At most `count` + 1 steps; a logarithmic schedule drops what rounds to the same step.
        """
        parts = [part / self.count for part in range(1, self.count + 1)]
        if self.schedule == "even":
            steps = {round(iterations * part) for part in parts}
        else:
            steps = {round(iterations**part) for part in parts}
        return (0, *sorted(steps - {0}))


class Family(Frozen):
    """Models of one network on one data set, over settings and seeds.

    Blocks count seeds from 0, whatever the `first_seed` of a setting. The measures by sampling
    (Hessian trace, sampled average-case sharpness) of the first `trace_seeds` seeds take many
    passes.

    With `together`, one job handles a block of seeds of all settings. If trainings take seconds,
    this saves starting a job for each. It does not change results, but a job that was killed
    repeats the settings that it had finished.
    """

    network: Network
    """Name of a module in `workflow/flatness/networks/`."""
    activation: Activation = "relu"
    """Activation; `tanh` is for `mlp` only."""
    dataset: ImageDataset
    """Images to train on."""
    classes: tuple[NonNegativeInt, ...] | None = None
    """Labels to keep; null keeps all."""
    train_size: PositiveInt | None = None
    """Training images; null takes all."""
    settings: Annotated[tuple[Setting, ...], Field(min_length=1)]
    """Points of the grid: a model is trained for each setting and seed."""
    seeds: PositiveInt
    """Number of models for each setting."""
    block: PositiveInt
    """Number of seeds that one job trains."""
    together: bool = False
    """Whether one job handles a block of seeds of all settings."""
    trend_seeds: NonNegativeInt
    """Number of seeds, from the first, measured along training; the others only at its end."""
    trend_block: PositiveInt = 1
    """Number of seeds that one job trains, for the seeds measured along training."""
    train_on: Device | None = None
    """Kind of device to train on, if not the run's `device`: a family may be trained on another
    machine's GPU and measured here."""
    iterations: PositiveInt
    """Steps of training after which models are compared."""
    trend_iterations: PositiveInt | None = None
    """Steps of the seeds measured along training, if more than `iterations`; null if not."""
    checkpoints: Checkpoints
    """At which steps weights are kept."""
    measure_every: PositiveInt = 1
    """Every n-th kept step is measured, counted back from the last."""
    samples: Annotated[int, Field(ge=2)]
    """Number of training images to measure on, the same for every model."""
    trace_seeds: NonNegativeInt = 0
    """Number of seeds, from the first, also measured by sampling at the end of training."""
    test_samples: NonNegativeInt | None = 0
    """Number of test images to measure on along training; null takes all."""

    @field_validator("settings")
    @classmethod
    def _settings_differ(cls, settings: tuple[Setting, ...]) -> tuple[Setting, ...]:
        names = [setting.name for setting in settings]
        if len(set(names)) < len(names):
            raise ValueError(f"a setting occurs twice: {', '.join(names)}")
        return settings

    @model_validator(mode="after")
    def _is_whole(self) -> "Family":
        if self.trend_seeds > self.seeds:
            raise ValueError(f"trend_seeds {self.trend_seeds} exceeds seeds {self.seeds}")
        largest = max(setting.batch_size for setting in self.settings)
        if self.train_size is not None and largest > self.train_size:
            raise ValueError(f"batch_size {largest} exceeds train_size {self.train_size}")
        longer = {f"setting {s.name}: iterations": s.iterations for s in self.settings}
        for name, steps in (longer | {"trend_iterations": self.trend_iterations}).items():
            if steps is not None and steps < self.iterations:
                raise ValueError(f"{name} {steps} is below the family's, {self.iterations}")
        if self.checkpoints.losses and self.measure_every > 1:
            raise ValueError(
                "checkpoints.losses needs measure_every 1: all that is kept is measured"
            )
        if self.activation != "relu" and self.network != "mlp":
            raise ValueError(f"{self.network} is built with relu only")
        return self

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks of seeds; either all or none of a block's seeds are trend seeds."""
        return self.trend_blocks + seed_blocks_from(self.trend_seeds, self.seeds, self.block)

    @property
    def trend_blocks(self) -> list[str]:
        """The blocks that are kept and measured along training."""
        return seed_blocks(self.trend_seeds, self.trend_block)

    @property
    def jobs(self) -> int:
        """How many jobs train the family."""
        return len(self.blocks) * (1 if self.together else len(self.settings))

    def setting(self, name: str) -> Setting:
        """The setting called `name`."""
        return next(setting for setting in self.settings if setting.name == name)

    def length(self, setting: Setting, *, trend: bool) -> int:
        """Training steps of a setting, for a seed that is measured along training or not."""
        own = setting.iterations or self.iterations
        return max(own, self.trend_iterations or 0) if trend else own

    def kept_steps(self, setting: Setting, *, trend: bool) -> tuple[int, ...]:
        """The steps at which weights are kept, ascending, without those that `losses` add."""
        last = self.length(setting, trend=trend)
        along = self.checkpoints.steps(last) if trend else (last,)
        start = (0,) if self.checkpoints.losses else ()  # for what comes before the first loss
        return tuple(sorted({*start, *along, self.iterations}))


class ChenSettings(Frozen):
    """The whole study."""

    families: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Family]
    """Families of models, by name."""
    keep_trajectories: bool
    """Whether weights along training stay on disk after they are measured."""
    scales: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], tuple[str, ...]] = Field(
        default={}
    )
    """Groups of families that differ only in their number of training images, by name."""

    @model_validator(mode="after")
    def _scales_compare_like_with_like(self) -> "ChenSettings":
        for name, families in self.scales.items():
            if unknown := sorted(set(families) - set(self.families)):
                raise ValueError(f"scales.{name}: no family {', '.join(unknown)}")
            kinds = {
                (family.network, family.activation, family.dataset, family.classes)
                for family in map(self.families.get, families)
            }
            if len(kinds) > 1:
                raise ValueError(
                    f"scales.{name}: families differ in network, activation, data set or classes"
                )
        return self


class GridTraining(Frozen):
    """All that determines the trained weights of one block, apart from the seeds.

    `steps` are the steps at which weights are kept, including the last. Models are compared after
    `end` steps. `losses` are training losses; weights are also kept when they are first reached.
    """

    family: str
    network: Network
    activation: Activation
    dataset: ImageDataset
    classes: tuple[NonNegativeInt, ...] | None
    train_size: PositiveInt | None
    setting: Setting
    steps: tuple[NonNegativeInt, ...]
    end: PositiveInt
    losses: tuple[PositiveFloat, ...] = ()
    device: Device


class Measurement(Frozen):
    """All that determines what is measured on the kept weights of one block.

    `steps` are the kept steps that are measured, besides those found at `losses`. Models are
    compared after `end` steps. `test_samples` is the number of test samples to measure on, too
    (None: all; 0: none).
    """

    family: str
    network: Network
    activation: Activation
    dataset: ImageDataset
    classes: tuple[NonNegativeInt, ...] | None
    train_size: PositiveInt | None
    setting: Setting
    steps: tuple[NonNegativeInt, ...]
    end: PositiveInt
    losses: tuple[PositiveFloat, ...] = ()
    samples: Annotated[int, Field(ge=2)]
    trace_seeds: NonNegativeInt
    test_samples: NonNegativeInt | None
    device: Device


def seed_blocks_from(first: int, seeds: int, size: int) -> list[str]:
    """Names the blocks of the seeds `first` … `seeds` - 1, as `seed_blocks` does from 0."""
    starts = range(first, seeds, size)
    return [f"{start}-{min(start + size, seeds) - 1}" for start in starts]


def training(
    settings: ChenSettings, family: str, setting: str, block: str, device: str
) -> GridTraining:
    """The training slice of one block.

    Args:
        settings: the study.
        family: name of the family.
        setting: name of the setting.
        block: name of the block of seeds.
        device: kind of device.

    Returns:
        The slice; it does not change when seeds are added.
    """
    chosen = settings.families[family]
    own = chosen.setting(setting)
    return GridTraining(
        **_data_and_network(chosen),
        family=family,
        setting=own,
        steps=chosen.kept_steps(own, trend=block in chosen.trend_blocks),
        end=chosen.iterations,
        losses=chosen.checkpoints.losses,
        device=device,
    )


def measurement(
    settings: ChenSettings, family: str, setting: str, block: str, device: str
) -> Measurement:
    """The measuring slice of one block; arguments as `training`."""
    chosen = settings.families[family]
    kept = training(settings, family, setting, block, device).steps
    every = {*kept[:: -chosen.measure_every], chosen.iterations}
    is_trend = block in chosen.trend_blocks
    return Measurement(
        **_data_and_network(chosen),
        family=family,
        setting=chosen.setting(setting),
        steps=tuple(sorted(every)),
        end=chosen.iterations,
        losses=chosen.checkpoints.losses,
        samples=chosen.samples,
        trace_seeds=chosen.trace_seeds,
        test_samples=chosen.test_samples if is_trend else 0,
        device=device,
    )


def _data_and_network(family: Family) -> dict[str, object]:
    keys = ("network", "activation", "dataset", "classes", "train_size")
    return {key: getattr(family, key) for key in keys}
