"""Common parts of the configuration: strict models, their hashes, blocks of seeds."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from flatness.errors import UserError


class Frozen(BaseModel):
    """Immutable settings; unknown keys and silent conversions are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def canonical_json(value: BaseModel | Mapping[str, Any]) -> str:
    """The one JSON text of a pydantic model or mapping: sorted keys, no spaces."""
    data = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def content_hash(value: BaseModel | Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that name an experiment: SHA-256 of its canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]


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
    """Reads a block's name, as made by `seed_blocks`.

    Args:
        block: such as "0-24".

    Returns:
        The seeds.

    Raises:
        UserError: the name is not of the form first-last.
    """
    first, _, last = block.partition("-")
    if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
        raise UserError(f"seeds {block!r}: write the first and the last, such as 0-24")
    return range(int(first), int(last) + 1)
