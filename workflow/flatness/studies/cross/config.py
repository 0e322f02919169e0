"""Settings of the comparison across both papers, and the slices for its jobs."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from flatness.records.frozen import Frozen
from flatness.studies.chen import config as chen
from flatness.studies.epfl import config as epfl


class CrossSettings(Frozen):
    """What is measured on the other paper's models: compression of pools, sharpness of families."""

    families: tuple[str, ...]
    """Families whose adaptive worst-case sharpness is measured at their last checkpoints; if there
    are none, this study is left out."""
    samples: Annotated[int, Field(ge=2)]
    """Training samples of each pool for the compression measures."""
    rho: PositiveFloat
    """Radius ρ of the worst-case sharpness."""
    batch_size: PositiveInt
    """Samples in a batch of the worst-case sharpness."""
    restarts: Annotated[int, Field(ge=2)]
    """Batches per model; the worst-case sharpness is the mean over them."""


class FamilyMeasurement(Frozen):
    """All that determines the adaptive worst-case sharpness of one block of a family."""

    training: chen.GridTraining
    rho: PositiveFloat
    batch_size: PositiveInt
    restarts: Annotated[int, Field(ge=2)]


class CrossPoolMeasurement(Frozen):
    """All that determines the compression measures of one block of a pool."""

    training: epfl.PoolTraining
    samples: Annotated[int, Field(ge=2)]


def family_measurement(
    settings: CrossSettings,
    study: chen.ChenSettings,
    family: str,
    setting: str,
    block: str,
    device: str,
) -> FamilyMeasurement:
    """The slice of one block of a family; the last arguments are those of its training."""
    return FamilyMeasurement(
        training=chen.training(study, family, setting, block, device),
        rho=settings.rho,
        batch_size=settings.batch_size,
        restarts=settings.restarts,
    )


def pool_measurement(
    settings: CrossSettings, study: epfl.EpflSettings, pool: str, protocol: str, device: str
) -> CrossPoolMeasurement:
    """The slice of every block of a pool; the last arguments are those of its training."""
    return CrossPoolMeasurement(
        training=epfl.training(study, pool, protocol, device), samples=settings.samples
    )
