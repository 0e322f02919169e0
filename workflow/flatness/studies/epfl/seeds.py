"""Random numbers keyed by what they are for: a model gets the same ones in any block of seeds."""

import hashlib

import torch


def seed_of(purpose: str, *key: int) -> int:
    """A 63-bit seed from a purpose and numbers such as the model's seed and the epoch."""
    text = " ".join([purpose, *map(str, key)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(purpose: str, *key: int) -> torch.Generator:
    """A CPU generator seeded by `seed_of`."""
    return torch.Generator().manual_seed(seed_of(purpose, *key))
