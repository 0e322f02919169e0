"""The configuration: one typed model, the source of truth for config/*.yaml.

Read at Snakemake's parse time, so nothing here imports torch.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from flatness.errors import UserError
from flatness.records.frozen import Frozen
from flatness.statistics.settings import Statistics
from flatness.studies.chen.config import ChenSettings
from flatness.studies.cross.config import CrossSettings
from flatness.studies.epfl.study import EpflStudy
from flatness.studies.transformers.config import TransformersSettings

DEVICE_VARIABLE = "FLATNESS_DEVICE"
#: Prefixes of result folders that no run writes: committed ones, and figures redrawn from them.
TAKEN_NAMES = ("reference", "redrawn")
#: Environment variable that names the one such folder that this process writes, as `redraw` does.
OWNER_VARIABLE = "FLATNESS_OWNS_RESULTS"
#: The patterns of names, in words.
PATTERNS = {
    r"^[a-z][a-z0-9_]*$": "a name has small letters, digits and _ only, and begins with a letter",
    r"^[A-Za-z0-9_-]+$": "a name has letters, digits, _ and - only",
    r"^[A-Za-z0-9_.-]+$": "a name has letters, digits, _, . and - only",
}


class Data(Frozen):
    """Where published data come from."""

    mirror: str | None = None
    """A folder with the published files; null downloads them from their publishers."""


class Figures(Frozen):
    """How figures are written."""

    dpi: PositiveInt
    """Resolution of the PNG pictures, in dots per inch."""
    together: bool = False
    """Whether one job draws all figures of the Chen families; if not, each can be redrawn alone."""


class Tier(Frozen):
    """A part of a run that can be run alone, by its target `<name>_<tier>`."""

    trends: tuple[str, ...] = ()
    """Families that are run with the seeds measured along training only: measurements."""
    families: tuple[str, ...] = ()
    """Families that are run with all seeds: measurements and correlations."""
    pools: tuple[str, ...] = ()
    """Pools, with their replications, audit and factorial."""
    transformers: bool = False
    """The transformers."""


class Config(Frozen):
    """Everything a run depends on."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    """Name of the run; its results are in `results/<name>`."""
    device: Literal["auto", "cpu", "cuda"]
    """Device on which networks run; `auto` takes a GPU if this machine has one."""
    data: Data
    """The source of published data."""
    statistics: Statistics
    """How intervals and p-values are made."""
    figures: Figures
    """Format of the figures."""
    epfl: EpflStudy
    """The second paper: pools of models, their replications and the audit of the released code."""
    chen: ChenSettings
    """The first paper: families of networks over a grid of settings."""
    transformers: TransformersSettings
    """Figure 4 of the first paper: transformers, trained here or pretrained."""
    cross: CrossSettings
    """Each paper's measures on the other paper's models."""
    tiers: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], Tier] = Field(default={})
    """Parts that can be run one by one, in the order of their worth for the time they take."""

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        # Lower case, since some file systems ignore case.
        if name.lower().startswith(TAKEN_NAMES) and name != os.environ.get(OWNER_VARIABLE):
            raise ValueError(
                f"results/{name} is for kept results, which a run would write over; "
                "choose another name"
            )
        return name

    @model_validator(mode="after")
    def _cross_families_exist(self) -> "Config":
        unknown = sorted(set(self.cross.families) - set(self.chen.families))
        if unknown:
            raise ValueError(
                f"cross.families: no {', '.join(unknown)}; chen.families has "
                f"{', '.join(self.chen.families)}"
            )
        return self

    @model_validator(mode="after")
    def _tiers_are_parts(self) -> "Config":
        for name, tier in self.tiers.items():
            for key, there in (
                ("trends", self.chen.families),
                ("families", self.chen.families),
                ("pools", self.epfl.pools),
            ):
                unknown = sorted(set(getattr(tier, key)) - set(there))
                if unknown:
                    raise ValueError(
                        f"tiers.{name}.{key}: no {', '.join(unknown)}; there are {', '.join(there)}"
                    )
        return self

    @model_validator(mode="after")
    def _samples_are_there(self) -> "Config":
        for name, family in self.chen.families.items():
            if family.train_size is not None and family.samples > family.train_size:
                raise ValueError(
                    f"chen.families.{name}: samples {family.samples} exceeds train_size "
                    f"{family.train_size}"
                )
        return self

    @property
    def members(self) -> dict[str, list[str]]:
        """What figures show: models of each study by their use, in the config's order."""
        pools = list(self.epfl.pools)
        found = {
            "families": list(self.chen.families),
            "scales": list(self.chen.scales),
            "pools": pools,
            "transformers": [model.name for model in self.transformers.models],
            "crossed": list(self.cross.families),
        }
        for kind in ("replications", "audit", "factorial"):
            found[kind] = [pool for pool in pools if pool in getattr(self.epfl, kind)]
        found["released_replications"] = [
            pool for pool in pools if "released" in self.epfl.replicated_protocols(pool)[1:]
        ]
        return found

    @property
    def device_kind(self) -> str:
        """The kind of device that jobs use: what `auto` finds here, without loading torch.

        Jobs of a cluster use what `settle_device` found where the run was started.
        """
        if self.device == "auto":
            here = "cuda" if Path("/dev/nvidia0").exists() else "cpu"
            return os.environ.get(DEVICE_VARIABLE, here)
        return self.device


def settle_device(settings: Config) -> str:
    """Finds the kind of device and passes it to jobs, which may run where "auto" differs.

    Args:
        settings: the configuration.

    Returns:
        "cpu" or "cuda".
    """
    os.environ[DEVICE_VARIABLE] = settings.device_kind
    return os.environ[DEVICE_VARIABLE]


def validate(values: Mapping[str, Any]) -> Config:
    """Checks a configuration as read from YAML.

    Args:
        values: nested mapping.

    Returns:
        The typed configuration.

    Raises:
        UserError: every wrong key, each with its path, the value found and what is allowed.
    """
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        raise UserError("the configuration is wrong:\n  " + "\n  ".join(lines)) from error


def _explain(item: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in item["loc"] if part != "[key]")
    if item["type"] == "extra_forbidden":
        return f"{path}: no such key; see config/demo.yaml for the keys there are"
    if item["type"] == "missing":
        return f"{path}: this key is missing; see config/demo.yaml for an example"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error" and isinstance(item["input"], Mapping | list | tuple):
        # Several keys do not fit one another: the message names them, the input is all there is.
        return f"{path}: {message}" if path else message
    if item["type"] == "string_pattern_mismatch":
        message = PATTERNS.get(item["ctx"]["pattern"], message)
    return f"{path}: found {item['input']!r}: {message}"
