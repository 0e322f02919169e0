"""Settings of stacked training: all models of a family take their steps together."""

from typing import Annotated, Literal

from pydantic import Field

from flatness.records.frozen import Frozen
from flatness.studies.chen.config import ChenSettings, GridTraining, training


class StackPart(Frozen):
    """What the loop would train in one job: a slice and a block of seeds."""

    training: GridTraining
    block: str

    def members(self) -> list[tuple[GridTraining, int]]:
        """Slice and seed of each of its models."""
        return [(self.training, seed) for seed in self.training.setting.seeds(self.block)]


class StackedTraining(Frozen):
    """Everything that determines the trained weights of a family, including its models.

    Rounding depends on how many models share a step, so all parts belong to the experiment.
    """

    parts: Annotated[tuple[StackPart, ...], Field(min_length=1)]
    execution: Literal["stacked"] = "stacked"

    @property
    def shared(self) -> GridTraining:
        """A slice, for what all parts share: family, network, data and device."""
        return self.parts[0].training

    def members(self) -> list[tuple[GridTraining, int]]:
        """The models in the order of the stack: the loop's slice and the seed of each."""
        return [member for part in self.parts for member in part.members()]


def stacked_training(settings: ChenSettings, family: str, device: str) -> StackedTraining:
    """The training slice of all models of a family.

    Args:
        settings: the study.
        family: its name.
        device: kind of device.

    Returns:
        The slice.
    """
    chosen = settings.families[family]
    parts = [
        StackPart(training=training(settings, family, setting.name, block, device), block=block)
        for setting in chosen.settings
        for block in chosen.blocks
    ]
    return StackedTraining(parts=tuple(parts))
