"""How intervals and p-values are made: a part of the config."""

from typing import Annotated

from pydantic import Field, NonNegativeInt

from flatness.records.frozen import Frozen


class Statistics(Frozen):
    """Resampling behind intervals and p-values."""

    resamples: Annotated[int, Field(ge=100)]
    """Bootstrap resamples of an interval, and permutations of a p-value."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    """Level of every interval, such as 0.95."""
    seed: NonNegativeInt
    """Seed of the resampling."""
