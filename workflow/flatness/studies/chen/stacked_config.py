"""Settings of stacked training: which models of a family take their steps together."""

from collections.abc import Iterator
from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from flatness.records.frozen import Frozen
from flatness.studies.chen.config import (
    Activation,
    ChenSettings,
    Device,
    Family,
    GridTraining,
    ImageDataset,
    Network,
    Setting,
    training,
)


class StackedTraining(Frozen):
    """All that determines the trained weights of one stack: its models are part of it.

    Rounding depends on how many models share a step, so settings and blocks of seeds belong to the
    experiment. `steps` are kept of the models of `trend_blocks`, of the others only the last.
    """

    family: str
    network: Network
    activation: Activation
    dataset: ImageDataset
    classes: tuple[NonNegativeInt, ...] | None
    train_size: PositiveInt | None
    settings: tuple[Setting, ...]
    blocks: tuple[str, ...]
    trend_blocks: tuple[str, ...]
    steps: tuple[NonNegativeInt, ...]
    losses: tuple[PositiveFloat, ...] = ()
    device: Device
    execution: Literal["stacked"]

    @model_validator(mode="after")
    def _steps_can_be_shared(self) -> "StackedTraining":
        kinds = {(setting.batch_size, setting.optimizer) for setting in self.settings}
        if len(kinds) != 1:
            raise ValueError("the settings of a stack share one batch_size and one optimizer")
        if not self.blocks:
            raise ValueError("a stack has at least one block of seeds")
        return self

    def parts(self) -> Iterator[tuple[GridTraining, str]]:
        """What the loop would train in jobs of their own: their slices, each with its block."""
        shared = self.model_dump(
            include={
                "family",
                "network",
                "activation",
                "dataset",
                "classes",
                "train_size",
                "losses",
            }
        )
        for setting in self.settings:
            for block in self.blocks:
                steps = self.steps if block in self.trend_blocks else self.steps[-1:]
                yield (
                    GridTraining(**shared, setting=setting, steps=steps, device=self.device),
                    block,
                )

    def members(self) -> list[tuple[GridTraining, int]]:
        """The models in the order of the stack: the loop's slice and the seed of each."""
        return [(part, seed) for part, block in self.parts() for seed in part.setting.seeds(block)]


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
    members = stacks(chosen)[stack]
    last_block = chosen.blocks[-1]
    loop = training(settings, family, members[0].name, last_block, device)
    return StackedTraining(
        **loop.model_dump(exclude={"setting", "steps"}),
        settings=members,
        blocks=tuple(chosen.blocks),
        trend_blocks=tuple(chosen.trend_blocks),
        steps=chosen.checkpoints.steps(chosen.iterations),
        execution="stacked",
    )
