"""Settings of the transformer study: the models, their training and their measuring."""

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

#: Relative paths in the configuration start at the folder that contains `config/`.
PROJECT = Path(__file__).parents[4]


class VitModel(Frozen):
    """One model: a constructor registered with timm, and the exact arguments it is called with.

    A pretrained model is given by its tag alone, such as "levit_128.fb_dist_in1k".
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    """Name of the model in tables."""
    constructor: str
    """Name of the constructor in timm's registry."""
    image_size: PositiveInt | None = None
    """Side in pixels that images are scaled to; null leaves them as they are."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Exact arguments of the constructor."""


class Adam(Frozen):
    """The released MLS: how far a perturbed output moves, maximised over perturbations."""

    steps: PositiveInt
    """Steps of Adam."""
    learning_rate: PositiveFloat
    """Learning rate of Adam."""
    start: PositiveFloat
    """Standard deviation of the initial perturbation of a pixel."""


class PowerIteration(Frozen):
    """MLS by its definition: the largest singular value of the Jacobian."""

    tolerance: PositiveFloat
    """Relative residual below which the iteration ends."""
    limit: PositiveInt
    """Most iterations."""


class Counts(Frozen):
    """How many draws to make, between a minimum and a maximum."""

    least: Annotated[int, Field(ge=2)]
    """Minimum number of draws."""
    most: PositiveInt
    """Maximum number of draws."""

    @model_validator(mode="after")
    def _are_ordered(self) -> "Counts":
        if self.least > self.most:
            raise ValueError(f"least {self.least} exceeds most {self.most}")
        return self


class Rounds(Counts):
    """The better average-case sharpness: each round has a new pair ±δ and new images."""

    images: PositiveInt
    """New images per round."""
    tolerance: PositiveFloat
    """Drawing ends at this relative standard error over rounds."""


class Perturbations(Frozen):
    """Adaptive sharpness: Gaussian perturbations of relative size `rho`."""

    rho: PositiveFloat
    """Standard deviation of the noise, relative to each weight."""
    stack: PositiveInt
    """Perturbed copies of the model that run at once; limits memory."""
    single: Counts
    """The released estimator: a new perturbation for each image."""
    pairs: Rounds
    """The better estimator: a new pair ±δ and new images in each round."""


class Measuring(Frozen):
    """Normalized MLS and adaptive sharpness, each by the released and by a better estimator."""

    images: Annotated[int, Field(ge=2)]
    """Number of images for MLS and the released sharpness."""
    evaluated: PositiveInt | None
    """Number of test images for loss and accuracy; null takes all."""
    chunk: PositiveInt
    """Images in one pass; limits memory."""
    seed: NonNegativeInt
    """Seed of images and perturbations."""
    quality: Share
    """Largest relative standard error with which a model is kept."""
    untrained_below: Share
    """Models with a test accuracy below this count as untrained."""
    adam: Adam
    """The released estimator of MLS."""
    power: PowerIteration
    """The estimator of MLS by its definition."""
    perturbations: Perturbations
    """Estimators of adaptive sharpness."""


class TrainingFromScratch(Frozen):
    """Training from scratch with AdamW; the learning rate rises, then falls.

    Without label smoothing, outputs saturate on most images, and a few images determine MLS.
    """

    images: PositiveInt
    """Number of images that a model sees, including repeats."""
    batch_size: Annotated[int, Field(ge=2)]
    """Images per step."""
    learning_rate: PositiveFloat
    """Highest learning rate."""
    weight_decay: NonNegativeFloat
    """Weight decay."""
    rise: Share
    """Share of the training in which the learning rate rises."""
    smoothing: Share
    """Share of the one-hot targets that is spread over all classes."""
    flip: bool
    """Whether images are mirrored at random."""
    seed: NonNegativeInt
    """Seed of initial weights and data order."""


class Trained(Frozen):
    """Small models, trained here."""

    dataset: DatasetName
    """Images to train on."""
    models: Annotated[tuple[VitModel, ...], Field(min_length=1)]
    """The models."""
    training: TrainingFromScratch
    """How they are trained."""

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
    """File of timm tags, one per line; relative to the folder above `config/`."""
    images_dir: str | None
    """Folder of ImageNet's validation images, with one folder per class."""
    weights_dir: str | None
    """Folder of `<model>.safetensors`; null takes timm's hub."""
    download: bool
    """Whether weights may be downloaded from the hub."""

    @property
    def exports(self) -> dict[str, str]:
        """Environment variables for the jobs that measure."""
        given = {IMAGES_DIR: self.images_dir, WEIGHTS_DIR: self.weights_dir}
        return {name: value for name, value in given.items() if value} | {
            DOWNLOAD: str(int(self.download))
        }


class TransformersSettings(Frozen):
    """The whole study: either `trained` or `pretrained` models; with neither, it is left out."""

    block: PositiveInt
    """Number of models that one job trains or measures."""
    trained: Trained | None = None
    """Models trained here; or give `pretrained`, or neither."""
    pretrained: Pretrained | None = None
    """Models with published weights; or give `trained`, or neither."""
    measuring: Measuring
    """What is measured and how."""

    @model_validator(mode="after")
    def _one_source(self) -> "TransformersSettings":
        if self.trained is not None and self.pretrained is not None:
            raise ValueError("give only one of the keys trained and pretrained")
        return self

    @property
    def models(self) -> tuple[VitModel, ...]:
        """All models, in the order of the configuration or of the pinned list."""
        if self.trained is not None:
            return self.trained.models
        if self.pretrained is None:
            return ()
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
