"""Replications of the pools, and the audit of the released code's defects."""

from typing import Literal, TypeVar

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from flatness.records.frozen import Frozen, seed_blocks, seeds_of
from flatness.studies.epfl.config import EpflSettings
from flatness.studies.epfl.defects import MEASURING_DEFECTS, TRAINING_DEFECTS
from flatness.studies.epfl.slices import Pool, PoolMeasurement, PoolTraining

Slice = TypeVar("Slice", PoolTraining, PoolMeasurement)
Part = Literal["measuring", "training", "both"]


class Replications(Frozen):
    """Independent pools of the same settings: replication r of M models has seeds rM … (r+1)M−1."""

    count: PositiveInt
    """Number of pools, including the main pool as replication 0."""
    block: PositiveInt
    """Models that one job trains and measures, beyond the main pool."""
    splits: PositiveInt = 1
    """Number of train/test splits, each with equally many pools; the first is the report's."""
    released: NonNegativeInt = 0
    """Number of pools, counted from the first, that are trained and measured as released, too."""

    @model_validator(mode="after")
    def _parts_fit_the_count(self) -> "Replications":
        if self.count % self.splits:
            raise ValueError(f"splits {self.splits} must divide count {self.count}")
        if self.released > self.count:
            raise ValueError(f"released {self.released} must not exceed count {self.count}")
        return self


class Audit(Frozen):
    """How many of a pool's models are audited, counted from seed 0.

    With `together`, one job measures everything that such audits need. If measuring takes seconds,
    this saves starting a job for each protocol. It does not change results.
    """

    models: PositiveInt
    """Models that are measured under every protocol that is not costly."""
    few: PositiveInt
    """Models measured under the costly protocols, and retrained with each training defect."""
    costly: tuple[str, ...]
    """Measuring protocols that take a long time."""
    together: bool = False
    """Whether one job measures all audits that have this option."""


class Factorial(Frozen):
    """A pool under every combination of the released code's defects."""

    models: PositiveInt
    """Number of models; their seeds are counted from 0."""
    block: PositiveInt
    """Models that one job trains and measures under all combinations."""

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks of seeds."""
        return seed_blocks(self.models, self.block)


class AuditRun(Frozen):
    """Models under one protocol of the audit.

    Attributes:
        part: what departs from the written protocol: measuring, training, or both.
        trained: training protocol.
        measured: measuring protocol.
        models: how many, with seeds counted from 0.
        blocks: blocks of seeds that contain these models.
    """

    part: Part
    trained: str
    measured: str
    models: PositiveInt
    blocks: tuple[str, ...]


class AuditPlan(Frozen):
    """Every run of a pool's audit."""

    pool: Pool
    runs: tuple[AuditRun, ...]


class EpflStudy(EpflSettings):
    """The pools, their replications, audits and factorials; a pool that is not named has none."""

    replications: dict[Pool, Replications]
    """Independent pools of the same settings, by pool."""
    audit: dict[Pool, Audit]
    """The written protocol against the released one, defect by defect, by pool."""
    factorial: dict[Pool, Factorial] = Field(default_factory=dict)
    """Every combination of the released code's defects, by pool."""

    @model_validator(mode="after")
    def _parts_fit_the_pools(self) -> "EpflStudy":
        for part in ("replications", "audit", "factorial"):
            for pool in getattr(self, part):
                if pool not in self.pools:
                    raise ValueError(f"{part}.{pool}: no such pool; there are {list(self.pools)}")
        for pool, chosen in self.replications.items():
            if chosen.splits > 1 and pool != "fcnn":
                raise ValueError(
                    f"replications.{pool}: splits {chosen.splits}; only fcnn draws splits, the "
                    "data of the other pools are published with theirs: write 1"
                )
        for pool, audit in self.audit.items():
            if not audit.few <= audit.models <= self.pools[pool].models:
                raise ValueError(
                    f"audit.{pool}: few {audit.few}, models {audit.models}; they must not exceed "
                    f"one another nor the pool's {self.pools[pool].models} models"
                )
            if unknown := set(audit.costly) - set(measured_protocols(pool)):
                raise ValueError(
                    f"audit.{pool}.costly: no such protocol: {sorted(unknown)}; "
                    f"there are {measured_protocols(pool)}"
                )
        return self

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks of all jobs."""
        main = [block for pool in self.pools.values() for block in pool.blocks]
        more = [
            block
            for pool in self.replications
            for protocol in self.replicated_protocols(pool)
            for block in self.replication_blocks(pool, protocol)
        ]
        audited = [
            block
            for pool in self.audit
            for run in self.audit_plan(pool).runs
            for block in run.blocks
        ]
        crossed = [block for chosen in self.factorial.values() for block in chosen.blocks]
        return [*main, *more, *audited, *crossed]

    def only(self, pool: str) -> EpflSettings:
        """The study of one pool, without replications, audit and factorial."""
        settings = {"pools": {pool: self.pools[pool]}}
        return EpflSettings(protocol=self.protocol, tolerance=self.tolerance, **settings)

    def replication_blocks(self, pool: str, protocol: str) -> list[str]:
        """Blocks of seeds of all replications, the main pool's first; each is of one split.

        Args:
            pool: a replicated pool.
            protocol: of training; the study's own has all replications.

        Returns:
            Names of the blocks.
        """
        main, chosen = self.pools[pool], self.replications[pool]
        pools = chosen.count if protocol == self.protocol else chosen.released
        models, a_split = pools * main.models, chosen.count * main.models // chosen.splits
        more = []
        for first in range(0, models, a_split):
            end = min(first + a_split, models)
            starts = range(max(first, main.models), end, chosen.block)
            more += [f"{start}-{min(start + chosen.block, end) - 1}" for start in starts]
        return [*main.blocks, *more]

    def replicated_protocols(self, pool: str) -> list[str]:
        """Protocols, the study's own first, under which a pool is trained and measured again."""
        if pool not in self.replications:
            return []
        more = ["released"] if self.replications[pool].released else []
        return list(dict.fromkeys([self.protocol, *more]))

    def of_block(self, settings: Slice, block: str) -> Slice:
        """The settings of one job; beyond the main pool, a block has its own stack size.

        Args:
            settings: of the pool.
            block: name of the block of seeds.

        Returns:
            The settings with the block's size and split.
        """
        main, seeds = self.pools[settings.pool], seeds_of(block)
        if block in main.blocks:
            return settings
        chosen = self.replications.get(settings.pool)
        a_split = chosen.count * main.models // chosen.splits if chosen else main.models
        split = seeds.start // a_split
        return settings.model_copy(update={"block": len(seeds), "split": split})

    def audit_plan(self, pool: str) -> AuditPlan:
        """Every protocol of a pool's audit: measuring, then training protocols, then all at once.

        The training part begins with the written protocol on the same few models.

        Args:
            pool: an audited pool.

        Returns:
            What the audit's job reads.
        """
        audit, main = self.audit[pool], self.pools[pool]

        def run(part: Part, trained: str, measured: str, models: int) -> AuditRun:
            blocks = tuple(seed_blocks(models, main.block))
            if trained == measured == "written":
                blocks = tuple(main.blocks)
            return AuditRun(
                part=part, trained=trained, measured=measured, models=models, blocks=blocks
            )

        runs = (
            *(
                run(
                    "measuring",
                    "written",
                    name,
                    audit.few if name in audit.costly else audit.models,
                )
                for name in measured_protocols(pool)
            ),
            *(run("training", name, "written", audit.few) for name in trained_protocols(pool)),
            run("both", "released", "released", audit.few),
        )
        return AuditPlan(pool=pool, runs=runs)

    def parts(self, pool: str) -> dict[str, str]:
        """Maps each block of a few models to the block of the main pool that contains them."""
        found = {}
        for run in self.audit_plan(pool).runs if pool in self.audit else ():
            for block in set(run.blocks) - set(self.pools[pool].blocks):
                first = seeds_of(block)[0]
                found[block] = self.pools[pool].blocks[first // self.pools[pool].block]
        return found

    @property
    def released_pools(self) -> list[str]:
        """Pools whose audit trains and measures every model as released."""
        return [name for name, audit in self.audit.items() if audit.few == self.pools[name].models]


def measured_protocols(pool: str) -> list[str]:
    """Measuring protocols of a pool: written, strong, each defect alone, released."""
    return ["written", "strong", *MEASURING_DEFECTS[pool], "released"]


def trained_protocols(pool: str) -> list[str]:
    """Training protocols of a pool that differ: written, each defect alone, released.

    Args:
        pool: fcnn, lenet5 or gat.

    Returns:
        Their names.
    """
    alone = list(TRAINING_DEFECTS[pool])
    # If a pool has only one defect, this defect alone is the released protocol.
    return ["written", *(alone if len(alone) > 1 else []), "released"]
