"""Settings of stacked training: which models of a family take their steps together."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from flatness.records.frozen import Frozen
from flatness.studies.chen.config import ChenSettings, Family, GridTraining, Setting, training


class StackPart(Frozen):
    """What the loop would train in one job: a slice and a block of seeds."""

    training: GridTraining
    block: str

    def members(self) -> list[tuple[GridTraining, int]]:
        """Slice and seed of each of its models."""
        return [(self.training, seed) for seed in self.training.setting.seeds(self.block)]


class StackedTraining(Frozen):
    """Everything that determines the trained weights of one stack, including its models.

    Rounding depends on how many models share a step, so all parts belong to the experiment.
    """

    parts: Annotated[tuple[StackPart, ...], Field(min_length=1)]
    execution: Literal["stacked"] = "stacked"

    @model_validator(mode="after")
    def _steps_can_be_shared(self) -> "StackedTraining":
        settings = {part.training.setting for part in self.parts}
        if len({(setting.batch_size, setting.optimizer) for setting in settings}) != 1:
            raise ValueError("the settings of a stack share one batch_size and one optimizer")
        return self

    @property
    def shared(self) -> GridTraining:
        """A slice, for what all parts share: family, network, data and device."""
        return self.parts[0].training

    def members(self) -> list[tuple[GridTraining, int]]:
        """The models in the order of the stack: the loop's slice and the seed of each."""
        return [member for part in self.parts for member in part.members()]


def stacks(family: Family) -> dict[str, tuple[Setting, ...]]:
    """The settings of a family that can share steps, by a name such as "batch20_sgd"."""
    found: dict[str, tuple[Setting, ...]] = {}
    for setting in family.settings:
        name = f"batch{setting.batch_size}_{setting.optimizer}"
        found[name] = (*found.get(name, ()), setting)
    return found


def stacked_training(
    settings: ChenSettings, family: str, stack: str, device: str
) -> StackedTraining:
    """The training slice of one stack.

    Args:
        settings: the study.
        family: name of the family.
        stack: name of the stack, of those `stacks` gives.
        device: kind of device.

    Returns:
        The slice.
    """
    chosen = settings.families[family]
    parts = [
        StackPart(training=training(settings, family, setting.name, block, device), block=block)
        for setting in stacks(chosen)[stack]
        for block in chosen.blocks
    ]
    return StackedTraining(parts=tuple(parts))
