"""How intervals and p-values are made: a part of the config."""

from typing import Annotated

from pydantic import Field, NonNegativeInt

from flatness.records.frozen import Frozen


class Statistics(Frozen):
    """Resampling behind intervals and p-values."""

    resamples: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    seed: NonNegativeInt
