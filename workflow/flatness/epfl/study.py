"""What surrounds the pools: their replications.

Apart from `flatness.epfl.config`, whose text is part of the version of every trained model: nothing
here determines a weight or a sharpness, so that changing it trains nothing again.
"""

from typing import TypeVar

from pydantic import PositiveInt, model_validator

from flatness.epfl.config import EpflSettings, Pool, PoolMeasurement, PoolSettings, PoolTraining
from flatness.frozen import Frozen, seeds_of

Slice = TypeVar("Slice", PoolTraining, PoolMeasurement)


class Replications(Frozen):
    """Independent pools of the same settings: replication r of M models has seeds rM … (r+1)M−1.

    Attributes:
        count: pools, the main one included as replication 0.
        block: models that one job trains and measures, beyond the main pool.
    """

    count: PositiveInt
    block: PositiveInt


class EpflStudy(EpflSettings):
    """The pools and what is done around them; a pool that a part does not name has no such part."""

    replications: dict[Pool, Replications]

    @model_validator(mode="after")
    def _parts_name_pools(self) -> "EpflStudy":
        for pool in self.replications:
            if pool not in self.pools:
                raise ValueError(f"replications.{pool}: no such pool; there are {list(self.pools)}")
        return self

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks of all jobs."""
        main = [block for pool in self.pools.values() for block in pool.blocks]
        more = [block for pool in self.replications for block in self.replication_blocks(pool)]
        return [*main, *more]

    def replication_blocks(self, pool: str) -> list[str]:
        """Blocks of seeds of all replications of a pool, the main pool's first."""
        main, chosen = self.pools[pool], self.replications[pool]
        end = chosen.count * main.models
        starts = range(main.models, end, chosen.block)
        more = [f"{start}-{min(start + chosen.block, end) - 1}" for start in starts]
        return [*main.blocks, *more]


def of_block(settings: Slice, pool: PoolSettings, block: str) -> Slice:
    """The settings of one job: a block that is not of the main pool is a stack of its own size."""
    if block in pool.blocks:
        return settings
    return settings.model_copy(update={"block": len(seeds_of(block))})
