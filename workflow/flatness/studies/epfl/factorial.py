"""The verb `cross-defects`: a pool's models under every combination of the released code's defects.

It covers all combinations of training defects, each measured as written and as released, and all
combinations of measuring defects, on models trained as written and as released. There are some 150
combinations, and most take seconds, so a combination is not a separate job.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from tqdm import tqdm

from flatness.datasets.normalised import Dataset, load
from flatness.records.frozen import content_hash, seeds_of
from flatness.records.tables import write_table
from flatness.records.tensors import Scratch
from flatness.studies.epfl.config import EpflSettings, measurement, training
from flatness.studies.epfl.correlate import join_pool
from flatness.studies.epfl.defects import crossed
from flatness.studies.epfl.measure import measured_rows
from flatness.studies.epfl.networks import stack
from flatness.studies.epfl.rows import CrossedModel
from flatness.studies.epfl.train import train_models, trained_rows


def cross_defects(
    settings: Annotated[str, typer.Option(help="the study of one pool, as JSON")],
    device: Annotated[str, typer.Option(help="kind of device")],
    data: Annotated[Path, typer.Option(help="data set written by fetch")],
    seeds: Annotated[str, typer.Option(help="first and last seed, such as 0-9")],
    scratch: Annotated[Path, typer.Option(help="folder of resumable state")],
    output: Annotated[Path, typer.Option(help="table of models to write")],
) -> None:
    """Trains and measures models under every combination; resumes after a kill."""
    study = EpflSettings.model_validate_json(settings)
    (pool,) = study.pools
    dataset = load(data)
    rows = []
    plan = crossed(pool)
    with Scratch(scratch, content_hash(study)) as kept:
        for number, (trained, measured) in enumerate(
            tqdm(plan.items(), desc=pool, unit="training", mininterval=5)
        ):
            saved = kept.load(f"training-{number}")
            if saved is None:
                found = run_training(
                    study, pool, trained, measured, dataset, seeds_of(seeds), device, scratch
                )
                saved = {}, {"rows": [row.model_dump(mode="json") for row in found]}
                kept.save(f"training-{number}", *saved)
            rows += [CrossedModel(**row) for row in saved[1]["rows"]]
    write_table(output, rows)


def run_training(
    study: EpflSettings,
    pool: str,
    trained: str,
    measured: list[str],
    dataset: Dataset,
    seeds: range,
    device: str,
    scratch: Path,
) -> Iterator[CrossedModel]:
    """Trains models under one protocol and measures them under several.

    Args:
        study: of the pool.
        pool: its name.
        trained: training protocol.
        measured: measuring protocols.
        dataset: the pool's data.
        seeds: of the models.
        device: kind of device.
        scratch: folder of the resumable state of one training, below this one.

    Yields:
        One row per model and measuring protocol.
    """
    block = {"block": len(seeds)}
    settings = training(study, pool, trained, device).model_copy(update=block)
    outcomes = train_models(settings, dataset, seeds, scratch / trained)
    made = pd.DataFrame([row.model_dump() for row in trained_rows(settings, dataset, outcomes)])
    states = stack([outcome.state for outcome in outcomes])
    reasons = [outcome.reason for outcome in outcomes]
    for name in measured:
        how = measurement(study, pool, trained, name, device).model_copy(update=block)
        rows = measured_rows(how, dataset, states, list(seeds), reasons, scratch / trained / name)
        joined = join_pool(made, pd.DataFrame([row.model_dump() for row in rows]))
        columns = [column for column in CrossedModel.model_fields if column in joined]
        for line in joined[columns].to_dict("records"):
            yield CrossedModel(trained=trained, measured=name, **line)
