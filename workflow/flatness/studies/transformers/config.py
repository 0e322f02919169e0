"""Settings of the transformer study: which models, how they are trained and how measured."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from flatness.datasets import DatasetName
from flatness.records.frozen import Frozen, seed_blocks, seeds_of
from flatness.studies.transformers.pretrained import DOWNLOAD, IMAGES_DIR, WEIGHTS_DIR, pinned_tags

Share = Annotated[float, Field(ge=0, lt=1)]
Device = Literal["cpu", "cuda"]

#: Relative paths in the configuration start at the folder that holds `config/`.
PROJECT = Path(__file__).parents[4]


class VitModel(Frozen):
    """One model: a constructor registered with timm, and the exact arguments it is called with.

    Pretrained models are their tag alone, as "levit_128.fb_dist_in1k".
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    constructor: str
    image_size: PositiveInt | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)


class Adam(Frozen):
    """The released MLS: how far a perturbed output moves, maximised over the perturbation."""

    steps: PositiveInt
    learning_rate: PositiveFloat
    start: PositiveFloat


class PowerIteration(Frozen):
    """The defined MLS: largest singular value of the Jacobian."""

    tolerance: PositiveFloat
    limit: PositiveInt


class Counts(Frozen):
    """How often to draw: `least` times, then as long as needed, `most` times in all."""

    least: Annotated[int, Field(ge=2)]
    most: PositiveInt

    @model_validator(mode="after")
    def _are_ordered(self) -> "Counts":
        if self.least > self.most:
            raise ValueError(f"least {self.least} exceeds most {self.most}")
        return self


class Rounds(Counts):
    """The better average-case sharpness: rounds of one pair ±δ and `images` images, all new.

    They end once the standard error over rounds is below `tolerance`, relatively.
    """

    images: PositiveInt
    tolerance: PositiveFloat


class Perturbations(Frozen):
    """Adaptive sharpness: Gaussian perturbations of relative size `rho`.

    `single` is the released estimator, `pairs` the better one. `stack` bounds memory: perturbed
    copies of the model held and run at once.
    """

    rho: PositiveFloat
    stack: PositiveInt
    single: Counts
    pairs: Rounds


class Measuring(Frozen):
    """Both quantities, by the released estimator and by the better one.

    `images` are behind MLS and the released sharpness, `evaluated` (all where null) behind test
    loss and accuracy. `chunk` bounds memory: images in one pass.
    """

    images: Annotated[int, Field(ge=2)]
    evaluated: PositiveInt | None
    chunk: PositiveInt
    seed: NonNegativeInt
    quality: Share
    untrained_below: Share
    adam: Adam
    power: PowerIteration
    perturbations: Perturbations


class TrainingFromScratch(Frozen):
    """Training from scratch: AdamW on `images` images, the learning rate rises and falls.

    Targets are smoothed, or outputs saturate on most images and few carry all of MLS.
    """

    images: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    rise: Share
    smoothing: Share
    flip: bool
    seed: NonNegativeInt


class Trained(Frozen):
    """Small models, trained here."""

    dataset: DatasetName
    models: Annotated[tuple[VitModel, ...], Field(min_length=1)]
    training: TrainingFromScratch

    @model_validator(mode="after")
    def _names_differ(self) -> "Trained":
        names = [model.name for model in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names used more than once: {', '.join(twice)}")
        return self


class Pretrained(Frozen):
    """Models with weights from timm's hub or a folder, measured on ImageNet's validation images."""

    models_file: str
    images_dir: str | None
    weights_dir: str | None
    download: bool

    @property
    def exports(self) -> dict[str, str]:
        """Environment variables for the jobs that measure."""
        given = {IMAGES_DIR: self.images_dir, WEIGHTS_DIR: self.weights_dir}
        return {name: value for name, value in given.items() if value} | {
            DOWNLOAD: str(int(self.download))
        }


class TransformersSettings(Frozen):
    """The whole study: either `trained` or `pretrained` models."""

    block: PositiveInt
    trained: Trained | None = None
    pretrained: Pretrained | None = None
    measuring: Measuring

    @model_validator(mode="after")
    def _one_source(self) -> "TransformersSettings":
        if (self.trained is None) == (self.pretrained is None):
            raise ValueError("give exactly one of the keys trained and pretrained")
        return self

    @property
    def models(self) -> tuple[VitModel, ...]:
        """All models, in the order of the configuration or of the pinned list."""
        if self.trained is not None:
            return self.trained.models
        tags = pinned_tags(PROJECT / self.pretrained.models_file)
        return tuple(VitModel(name=tag, constructor=tag) for tag in tags)

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks of consecutive models that one job handles."""
        return seed_blocks(len(self.models), self.block)


class VitTraining(Frozen):
    """All that determines the weights of one block of models trained here."""

    dataset: DatasetName
    models: tuple[VitModel, ...]
    training: TrainingFromScratch
    device: Device


class VitMeasurement(Frozen):
    """All that determines what is measured on one block of models.

    `dataset` is None for pretrained models, which see ImageNet's validation images.
    """

    dataset: DatasetName | None
    models: tuple[VitModel, ...]
    measuring: Measuring
    device: Device


def training(settings: TransformersSettings, block: str, device: str) -> VitTraining:
    """The training slice of one block."""
    return VitTraining(
        dataset=settings.trained.dataset,
        models=_models_of(settings, block),
        training=settings.trained.training,
        device=device,
    )


def measurement(settings: TransformersSettings, block: str, device: str) -> VitMeasurement:
    """The measuring slice of one block."""
    return VitMeasurement(
        dataset=settings.trained.dataset if settings.trained else None,
        models=_models_of(settings, block),
        measuring=settings.measuring,
        device=device,
    )


def _models_of(settings: TransformersSettings, block: str) -> tuple[VitModel, ...]:
    return tuple(settings.models[index] for index in seeds_of(block))
