"""The checkout under test: its folder, and the configs that it ships."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def shipped(name="demo"):
    """The values of a shipped config, to be changed freely."""
    return yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8"))
