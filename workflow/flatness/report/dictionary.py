"""The verb `dictionary`: what every column of every table means."""

from pathlib import Path
from typing import Annotated

import typer

from flatness.records.files import atomic_path
from flatness.records.tables import Row, data_dictionary
from flatness.report.ledger import Outcome
from flatness.studies.checkpoint_row import CheckpointRow
from flatness.studies.chen.comparison_rows import Contrast, FactorEffect, InterpolatedChange
from flatness.studies.chen.measured_rows import (
    BoundTightness,
    FamilyCorrelation,
    MeasuredCheckpoint,
)
from flatness.studies.chen.rows import TrainedCheckpoint
from flatness.studies.cross.rows import CrossCorrelation, CrossMeasurement, CrossModel
from flatness.studies.epfl.audit_rows import AuditedProtocol, SourceComparison
from flatness.studies.epfl.factorial_rows import Combination, CrossedModel, DefectEffect
from flatness.studies.epfl.replication_rows import ReplicatedModel, Replication, TauDistribution
from flatness.studies.epfl.rows import MeasuredModel, PoolCorrelation, PoolModel, TrainedModel
from flatness.studies.transformers.rows import MeasuredVit, PlacedVit, TrainedVit, VitCorrelation

#: Tables below `results/<config>` and the model that their rows fit.
TABLES: dict[str, type[Row]] = {
    "checkpoints/epfl/*/*/*.csv": TrainedModel,
    "checkpoints/chen/*/*/*.csv": TrainedCheckpoint,
    "checkpoints/transformers/*.csv": TrainedVit,
    "measurements/epfl/*/*/*/*.csv": MeasuredModel,
    "measurements/chen/*/*/*.csv": MeasuredCheckpoint,
    "measurements/transformers/*.csv": MeasuredVit,
    "measurements/cross/chen/*/*/*.csv": CrossMeasurement,
    "measurements/cross/epfl/*/*/*.csv": CrossMeasurement,
    "correlations/epfl/*/*/*/models.csv": PoolModel,
    "correlations/epfl/*/*/*/correlations.csv": PoolCorrelation,
    "correlations/chen/*/checkpoints.csv": MeasuredCheckpoint,
    "correlations/chen/*/correlations.csv": FamilyCorrelation,
    "correlations/chen/*/bounds.csv": BoundTightness,
    "correlations/chen/*/contrasts.csv": Contrast,
    "correlations/chen/*/effects.csv": FactorEffect,
    "correlations/chen/*/changes.csv": InterpolatedChange,
    "correlations/transformers/models.csv": PlacedVit,
    "correlations/transformers/correlations.csv": VitCorrelation,
    "correlations/replications/*/*/*/models.csv": ReplicatedModel,
    "correlations/replications/*/*/*/replications.csv": Replication,
    "correlations/replications/*/*/*/distribution.csv": TauDistribution,
    "correlations/audit/*/models.csv": PoolModel,
    "correlations/audit/*/audit.csv": AuditedProtocol,
    "correlations/audit/*/released_against_source.csv": SourceComparison,
    "measurements/factorial/*/*.csv": CrossedModel,
    "correlations/factorial/*/cells.csv": Combination,
    "correlations/factorial/*/effects.csv": DefectEffect,
    "correlations/cross/models.csv": CrossModel,
    "correlations/cross/correlations.csv": CrossCorrelation,
    "report/claims.csv": Outcome,
}
#: Tables that no run writes: what does, and the model that their rows fit.
OTHER_TABLES: dict[str, type[Row]] = {"the output of flatness measure": CheckpointRow}


def dictionary(
    output: Annotated[Path, typer.Option(help="table to write")],
) -> None:
    """Writes one line a column of every table: type, unit, symbol, convention, meaning."""
    tables = TABLES | OTHER_TABLES
    files = {row.__name__: [] for row in tables.values()}
    for pattern, row in tables.items():
        files[row.__name__].append(pattern)
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
        if table.match(pattern) and len(table.parts) == len(Path(pattern).parts):
            return row
    raise KeyError(str(table))
