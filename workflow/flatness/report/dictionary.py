"""The verb `dictionary`: the meaning of every column of every table."""

from pathlib import Path
from typing import Annotated

import typer

from flatness.records import layout
from flatness.records.files import atomic_path
from flatness.records.tables import Row, data_dictionary
from flatness.report.ledger import Outcome
from flatness.studies.checkpoint_row import CheckpointRow
from flatness.studies.chen.measured_rows import (
    BoundTightness,
    Contrast,
    FactorEffect,
    FamilyCorrelation,
    InterpolatedChange,
    MeasuredCheckpoint,
)
from flatness.studies.chen.rows import TrainedCheckpoint
from flatness.studies.chen.scale import ScaleCorrelation
from flatness.studies.cross.rows import CrossCorrelation, CrossMeasurement, CrossModel
from flatness.studies.epfl.rows import (
    AuditedProtocol,
    Combination,
    CrossedModel,
    DefectEffect,
    MeasuredModel,
    PoolCorrelation,
    PoolModel,
    PublishedRange,
    ReplicatedModel,
    Replication,
    SourceComparison,
    TauDistribution,
    TrainedModel,
)
from flatness.studies.transformers.rows import MeasuredVit, PlacedVit, TrainedVit, VitCorrelation

#: Tables below `results/<config>` and the models of their rows.
TABLES: dict[str, type[Row]] = {
    layout.EPFL_TRAINED: TrainedModel,
    layout.CHEN_TRAINED: TrainedCheckpoint,
    layout.VIT_TRAINED: TrainedVit,
    layout.EPFL_MEASURED: MeasuredModel,
    layout.CHEN_MEASURED: MeasuredCheckpoint,
    layout.VIT_MEASURED: MeasuredVit,
    layout.CROSS_CHEN_MEASURED: CrossMeasurement,
    layout.CROSS_EPFL_MEASURED: CrossMeasurement,
    layout.POOL_MODELS: PoolModel,
    layout.POOL_CORRELATIONS: PoolCorrelation,
    layout.POOL_RANGES: PublishedRange,
    layout.CHEN_CHECKPOINTS: MeasuredCheckpoint,
    layout.CHEN_CORRELATIONS: FamilyCorrelation,
    layout.BOUNDS: BoundTightness,
    layout.CONTRASTS: Contrast,
    layout.EFFECTS: FactorEffect,
    layout.CHANGES: InterpolatedChange,
    layout.SCALE: ScaleCorrelation,
    layout.VIT_MODELS: PlacedVit,
    layout.VIT_CORRELATIONS: VitCorrelation,
    layout.REPLICATED_MODELS: ReplicatedModel,
    layout.REPLICATIONS: Replication,
    layout.DISTRIBUTION: TauDistribution,
    layout.AUDITED_MODELS: PoolModel,
    layout.AUDIT: AuditedProtocol,
    layout.AUDITED_SOURCE: SourceComparison,
    layout.FACTORIAL_MEASURED: CrossedModel,
    layout.FACTORIAL_CELLS: Combination,
    layout.FACTORIAL_EFFECTS: DefectEffect,
    layout.CROSS_MODELS: CrossModel,
    layout.CROSS_CORRELATIONS: CrossCorrelation,
    layout.LEDGER: Outcome,
}
#: Tables that are not written by a run: their source, and the models of their rows.
OTHER_TABLES: dict[str, type[Row]] = {"the output of flatness measure": CheckpointRow}


def dictionary(
    output: Annotated[Path, typer.Option(help="table to write")],
) -> None:
    """Writes one line per column of every table: type, unit, symbol, convention, meaning."""
    tables = TABLES | OTHER_TABLES
    files = {row.__name__: [] for row in tables.values()}
    for pattern, row in tables.items():
        files[row.__name__].append(layout.glob(pattern))
    found = data_dictionary(dict.fromkeys(tables.values()))
    found.insert(0, "files", found["table"].map(lambda name: " ".join(files[name])))
    with atomic_path(output) as temporary:
        found.drop(columns="table").to_csv(temporary, index=False)


def row_of(table: Path) -> type[Row]:
    """The model of a table's rows.

    Args:
        table: path below `results/<config>`.

    Returns:
        Its row model.

    Raises:
        KeyError: no table of the workflow has such a path.
    """
    for pattern, row in TABLES.items():
        if table.match(layout.glob(pattern)) and len(table.parts) == len(Path(pattern).parts):
            return row
    raise KeyError(str(table))
