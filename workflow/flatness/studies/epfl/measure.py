"""The verb `measure-epfl`: adaptive worst-case sharpness of a block of trained models."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from flatness.datasets.normalised import Dataset, load
from flatness.measures._repeatable import require_repeatable
from flatness.measures.ascent import (
    Maximiser,
    Parameters,
    draw_batches,
    loss_rises,
    plain_rise,
    strong_rise,
)
from flatness.measures.measuring import measuring
from flatness.measures.worst_case import module_losses, summarise
from flatness.records.checkpoints import checkpoint_name
from flatness.records.frozen import content_hash
from flatness.records.tables import provenance, write_table
from flatness.records.tensors import Scratch
from flatness.studies.epfl.defects import fcnn, gat, lenet5
from flatness.studies.epfl.lenet5 import lenet5_images
from flatness.studies.epfl.networks import Batch, LeNet5, load_stack
from flatness.studies.epfl.pools import POOLS, StackedPool
from flatness.studies.epfl.rows import MeasuredModel
from flatness.studies.epfl.seeds import generator, seed_of
from flatness.studies.epfl.slices import PoolMeasurement

RELEASED = {"fcnn": fcnn.rises, "gat": gat.rises}


def measure_pool(
    experiment: Annotated[str, typer.Option(help="settings of the measurement, as JSON")],
    data: Annotated[Path, typer.Option(help="data set written by fetch")],
    checkpoints: Annotated[Path, typer.Option(help="weights written by train-epfl")],
    scratch: Annotated[Path, typer.Option(help="folder of resumable state")],
    output: Annotated[Path, typer.Option(help="table of sharpness to write")],
) -> None:
    """Measures the adaptive worst-case sharpness of every model of a block."""
    settings = PoolMeasurement.model_validate_json(experiment)
    states, seeds, reasons = load_stack(checkpoints)
    write_table(output, measured_rows(settings, load(data), states, seeds, reasons, scratch))


def measured_rows(
    settings: PoolMeasurement,
    dataset: Dataset,
    states: Parameters,
    seeds: Sequence[int],
    reasons: Sequence[str],
    scratch: Path,
) -> list[MeasuredModel]:
    """Measures the models that did not diverge.

    Args:
        settings: the measuring protocol.
        dataset: the pool's data.
        states: tensors of the models, (M, ...).
        seeds: of the models.
        reasons: why a model diverged, empty if it did not.
        scratch: folder of resumable state.

    Returns:
        One row per model, including diverged models.
    """
    kept = [index for index, reason in enumerate(reasons) if not reason]
    usable = {name: values[kept] for name, values in states.items()}
    rises = dict.fromkeys(seeds)
    if kept:
        usable_seeds = [seeds[index] for index in kept]
        measured = measure_models(settings, dataset, usable, usable_seeds, scratch)
        rises |= dict(zip(usable_seeds, measured, strict=True))
    source = provenance(
        content_hash(settings), device=settings.device, execution=settings.execution
    )
    return [
        _row(settings, seed, rises[seed], reason, source)
        for seed, reason in zip(seeds, reasons, strict=True)
    ]


def _row(
    settings: PoolMeasurement, seed: int, rises: Tensor | None, reason: str, source: dict
) -> MeasuredModel:
    result = summarise(torch.full((1,), math.nan) if rises is None else rises)
    finite = math.isfinite(result.value)
    return MeasuredModel(
        pool=settings.pool,
        seed=seed,
        worst_case_sharpness=result.value if finite else math.nan,
        worst_case_sharpness_se=result.standard_error,
        worst_case_sharpness_clamped=result.clamped if finite else math.nan,
        restarts=0 if rises is None else result.restarts,
        reason=reason or ("" if finite else "the loss was not finite along the ascent"),
        **source,
    )


def measure_models(
    settings: PoolMeasurement,
    dataset: Dataset,
    states: Parameters,
    seeds: Sequence[int],
    scratch: Path,
) -> Tensor:
    """Loss rises of trained models under one measuring protocol.

    A model's batches depend only on its seed and `settings.seed`. They are the same in any block,
    and under every protocol that draws the same number of batches.

    Args:
        settings: the measuring protocol.
        dataset: the pool's data.
        states: tensors of the models, (M, ...).
        seeds: of the models, M.
        scratch: folder of resumable state; only LeNet-5 takes long enough to need it.

    Returns:
        (M, restarts).
    """
    if settings.pool == "lenet5":
        data = lenet5_images(dataset, settings.train_size, settings.device).train
        with Scratch(scratch, content_hash(settings)) as kept:
            return _measure_lenet5s(settings, data, states, seeds, kept)
    pool = POOLS[settings.pool](
        dataset,
        settings.train_size,
        settings.training_defects,
        settings.device,
        split=settings.split,
    )
    states = {name: values.to(settings.device) for name, values in states.items()}
    size = len(seeds) if settings.execution == "stacked" else 1
    parts = []
    for first in tqdm(range(0, len(seeds), size), desc=settings.pool, unit="stack", mininterval=5):
        stack = {name: values[first : first + size] for name, values in states.items()}
        parts.append(measure_stack(settings, pool, stack, seeds[first : first + size]))
    return torch.cat(parts)


def measure_stack(
    settings: PoolMeasurement, pool: StackedPool, centre: Parameters, seeds: Sequence[int]
) -> Tensor:
    """Loss rises (M, restarts) of one stack of models."""
    generators = [generator("measure", settings.seed, seed) for seed in seeds]
    if settings.defects:
        return RELEASED[settings.pool](pool, settings, centre, generators)
    ascent = settings.ascent
    batches = draw_batches(pool.samples, ascent.restarts, ascent.batch_size, generators)
    maximise = _maximiser(settings, generators)
    return loss_rises(pool.losses, centre, pool.batch(batches), maximise)


def _measure_lenet5s(
    settings: PoolMeasurement, data: Batch, states: Parameters, seeds: Sequence[int], kept: Scratch
) -> Tensor:
    """Loss rises (M, restarts); a finished model is never measured again."""
    rises = []
    for index, seed in enumerate(tqdm(seeds, desc="lenet5", unit="model", mininterval=5)):
        saved = kept.load(checkpoint_name(seed))
        if saved is None:
            model = LeNet5().to(data[0]).to(memory_format=torch.channels_last)
            model.load_state_dict({name: values[index] for name, values in states.items()})
            saved = {"rises": measure_lenet5(settings, model, data, seed)}, {}
            kept.save(checkpoint_name(seed), *saved)
        rises.append(saved[0]["rises"])
    return torch.stack(rises)


def measure_lenet5(settings: PoolMeasurement, model: LeNet5, data: Batch, seed: int) -> Tensor:
    """Loss rises (restarts,) of one LeNet-5."""
    one = generator("measure", settings.seed, seed)
    if settings.defects:
        devices = [data[0].device] if data[0].device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed_of("measure dropout", settings.seed, seed))
            return lenet5.rises(model, settings, data, one)
    centre = {name: weights.detach()[None] for name, weights in model.named_parameters()}
    ascent = settings.ascent
    batches = draw_batches(len(data[1]), ascent.restarts, ascent.batch_size, [one])
    batches = batches.to(data[1].device)
    losses = module_losses(model, functional.cross_entropy, data)
    with measuring(model):
        model.eval()
        require_repeatable(model, lambda: losses(centre, batches[:, 0]))
        return loss_rises(losses, centre, batches, _maximiser(settings, [one]))[0]


def _maximiser(settings: PoolMeasurement, generators: Sequence[torch.Generator]) -> Maximiser:
    if settings.maximiser == "strong":
        return partial(strong_rise, rho=settings.rho, generators=generators)
    ascent = settings.ascent
    return partial(plain_rise, rho=settings.rho, step_size=settings.step_size, steps=ascent.steps)
