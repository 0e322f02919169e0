"""What every part of the configuration shares: strict frozen models, and blocks of seeds."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Settings that cannot change once read; unknown keys and silent conversions are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def seed_blocks(seeds: int, size: int) -> list[str]:
    """Names the blocks of consecutive seeds that one job handles.

    Args:
        seeds: how many, counted from 0.
        size: seeds in a block; the last block may be shorter.

    Returns:
        Names such as "0-24": first and last seed, both included.
    """
    starts = range(0, seeds, size)
    return [f"{start}-{min(start + size, seeds) - 1}" for start in starts]


def seeds_of(block: str) -> range:
    """The seeds of a block named by `seed_blocks`."""
    first, last = block.split("-")
    return range(int(first), int(last) + 1)
