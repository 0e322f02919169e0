"""The verb `train-epfl`: trains a block of models of one pool."""

from pathlib import Path
from typing import Annotated

import typer

from flatness.datasets.normalised import Dataset, load
from flatness.errors import UserError
from flatness.records.checkpoints import checkpoint_name, save_checkpoints
from flatness.records.frozen import content_hash, seeds_of
from flatness.records.tables import provenance, write_table
from flatness.records.tensors import Scratch
from flatness.studies.epfl.lenet5 import lenet5_images, train_lenet5
from flatness.studies.epfl.pools import POOLS, StackedPool
from flatness.studies.epfl.protocol import TrainingOutcome
from flatness.studies.epfl.rows import TrainedModel
from flatness.studies.epfl.slices import PoolTraining
from flatness.studies.epfl.train_stacked import train_stack


def train_pool(
    experiment: Annotated[str, typer.Option(help="settings of the pool's training, as JSON")],
    data: Annotated[Path, typer.Option(help="data set written by fetch")],
    seeds: Annotated[str, typer.Option(help="first and last seed, such as 0-24")],
    scratch: Annotated[Path, typer.Option(help="folder of resumable state")],
    output: Annotated[Path, typer.Option(help="checkpoints to write")],
    table: Annotated[Path, typer.Option(help="table of models to write")],
) -> None:
    """Trains models that differ only in initial weights and data order."""
    settings = PoolTraining.model_validate_json(experiment)
    dataset = load(data)
    outcomes = train_models(settings, dataset, seeds_of(seeds), scratch)
    metadata = {
        "settings": settings.model_dump(mode="json"),
        "seeds": [outcome.seed for outcome in outcomes],
        "reasons": [outcome.reason for outcome in outcomes],
    }
    models = {checkpoint_name(outcome.seed): outcome.state for outcome in outcomes}
    save_checkpoints(output, models, metadata)
    write_table(table, trained_rows(settings, dataset, outcomes))


def trained_rows(
    settings: PoolTraining, dataset: Dataset, outcomes: list[TrainingOutcome]
) -> list[TrainedModel]:
    """One row a trained model."""
    train_size = training_samples(settings, dataset)
    source = provenance(
        content_hash(settings), device=settings.device, execution=settings.execution
    )
    return [
        TrainedModel(
            pool=settings.pool,
            dataset=dataset.name,
            demo=dataset.demo,
            train_size=train_size,
            seed=outcome.seed,
            split=settings.split,
            epochs=len(outcome.epoch_losses),
            epoch_loss=outcome.epoch_losses[-1],
            train_loss=outcome.train_loss,
            test_loss=outcome.test_loss,
            test_accuracy=outcome.test_accuracy,
            diverged=bool(outcome.reason),
            reason=outcome.reason,
            **source,
        )
        for outcome in outcomes
    ]


def train_models(
    settings: PoolTraining, dataset: Dataset, seeds: range, scratch: Path
) -> list[TrainingOutcome]:
    """Trains one model per seed, in the order of the seeds.

    Args:
        settings: all that determines the weights, apart from the seeds.
        dataset: the pool's data.
        seeds: of the models.
        scratch: folder of resumable state; only LeNet-5 takes long enough to need it.

    Returns:
        The models, including diverged ones.

    Raises:
        UserError: LeNet-5 was asked for stacked.
    """
    if settings.pool == "lenet5":
        if settings.execution == "stacked":
            raise UserError("epfl.pools.lenet5.execution: LeNet-5 trains in a loop; write loop")
        images = lenet5_images(dataset, settings.train_size, settings.device)
        with Scratch(scratch, content_hash(settings)) as kept:
            return train_lenet5(images, settings, seeds, kept)
    pool = stacked_pool(settings, dataset)
    if settings.execution == "stacked":
        return train_stack(pool, settings, seeds)
    return [outcome for seed in seeds for outcome in train_stack(pool, settings, [seed])]


def training_samples(settings: PoolTraining, dataset: Dataset) -> int:
    """Number of training samples of a pool: images, rows of a table, nodes of a graph."""
    if settings.pool == "lenet5":
        return settings.train_size or len(dataset.tensors["train_targets"])
    return stacked_pool(settings, dataset).samples


def stacked_pool(settings: PoolTraining, dataset: Dataset) -> StackedPool:
    """Data and network of a pool of small models."""
    return POOLS[settings.pool](
        dataset, settings.train_size, settings.defects, settings.device, split=settings.split
    )
