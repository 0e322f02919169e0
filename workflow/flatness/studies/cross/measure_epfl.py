"""The verb `measure-cross-epfl`: sharpness S and compression of the models of a pool.

As in the compression study: outputs f are the network's own (a number, or class scores before the
softmax), S = mean ||∂f/∂θ||² needs no targets, models are in evaluation mode and measured in
float64, on the same training samples for every model of the pool.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from tqdm import tqdm

from flatness.datasets.normalised import Dataset, load
from flatness.errors import NumericalError, UserError
from flatness.measures.ascent import Parameters
from flatness.measures.estimates import Estimate
from flatness.measures.measure import measure
from flatness.records.frozen import content_hash
from flatness.records.tables import provenance, write_table
from flatness.studies.cross.config import CrossPoolMeasurement
from flatness.studies.cross.measures import COMPRESSION, NOT_DEFINED
from flatness.studies.cross.node_jacobians import measure_nodes
from flatness.studies.cross.rows import CrossMeasurement, no_value, of_value
from flatness.studies.epfl.lenet5 import lenet5_images
from flatness.studies.epfl.networks import LeNet5, fcnn, load_stack
from flatness.studies.epfl.pools import FcnnPool

#: A model's estimates by measure, or the reason why there are none.
Found = dict[str, Estimate] | str


def measure_pool(
    experiment: Annotated[str, typer.Option(help="slice of the config, as JSON")],
    data: Annotated[Path, typer.Option(help="data set written by fetch")],
    checkpoints: Annotated[Path, typer.Option(help="weights written by train-epfl")],
    output: Annotated[Path, typer.Option(help="table of measurements to write")],
) -> None:
    """Measures S, MLS, NMLS, bounds and volumes of every model of a block of a pool."""
    chosen = CrossPoolMeasurement.model_validate_json(experiment)
    dataset = load(data)
    states, seeds, reasons = load_stack(checkpoints)
    kept = [index for index, reason in enumerate(reasons) if not reason]
    usable = {name: values[kept] for name, values in states.items()}
    measured = iter(measure_models(chosen, dataset, usable) if kept else ())
    execution = "stacked" if chosen.training.pool == "gat" else "loop"
    made = provenance(content_hash(chosen), device=chosen.training.device, execution=execution) | {
        "models": chosen.training.pool,
        "dataset": dataset.name,
        "demo": dataset.demo,
    }
    rows = []
    for seed, reason in zip(seeds, reasons, strict=True):
        found = {} if reason else next(measured)
        for name in COMPRESSION:
            columns = _columns(chosen.training.pool, name, found, reason)
            rows.append(CrossMeasurement(setting="", seed=seed, measure=name, **columns, **made))
    write_table(output, rows)


def _columns(pool: str, name: str, found: Found, diverged: str) -> dict[str, Any]:
    """Value, standard error, status and reason of one measure of one model."""
    if diverged:
        return no_value("diverged", diverged)
    if name in NOT_DEFINED[pool]:
        return no_value("not defined", NOT_DEFINED[pool][name])
    if isinstance(found, str):
        return no_value("not measured", found)
    return of_value(found[name].value, found[name].standard_error)


def measure_models(
    experiment: CrossPoolMeasurement, dataset: Dataset, states: Parameters
) -> Iterator[Found]:
    """Measures trained models one after the other, those of a GAT together.

    Args:
        experiment: the pool, and how many training samples.
        dataset: the pool's data.
        states: tensors of the models, (M, ...).

    Yields:
        Each model's estimates, or the reason why there are none.

    Raises:
        UserError: fewer training samples than asked for.
    """
    states = {
        name: v.to(experiment.training.device, torch.float64 if v.is_floating_point() else None)
        for name, v in states.items()
    }
    if experiment.training.pool == "gat":
        yield from _gats(experiment, dataset, states)
        return
    build, inputs = MODULES[experiment.training.pool](experiment, dataset)
    count = len(next(iter(states.values())))
    for index in tqdm(range(count), desc=experiment.training.pool, unit="model", mininterval=2):
        model = build().to(inputs).eval()
        model.load_state_dict({name: values[index] for name, values in states.items()})
        try:
            yield dict(measure(model, inputs, quantities=COMPRESSION))
        except NumericalError as error:
            yield str(error)


def _gats(
    experiment: CrossPoolMeasurement, dataset: Dataset, states: Parameters
) -> list[dict[str, Estimate]]:
    tensors = {k: v.to(experiment.training.device) for k, v in dataset.tensors.items()}
    nodes = tensors["train_mask"].nonzero().squeeze(1)
    chosen = nodes[sample_order(len(nodes), experiment).to(nodes.device)]
    return measure_nodes(Dataset(dataset.name, dataset.demo, tensors), chosen, states)


def _fcnn(
    experiment: CrossPoolMeasurement, dataset: Dataset
) -> tuple[Callable[[], nn.Module], Tensor]:
    """How to build the network, and the samples to measure on."""
    training = experiment.training
    pool = FcnnPool(
        dataset,
        training.train_size,
        training.defects,
        training.device,
        torch.float64,
        split=training.split,
    )
    inputs = pool.train[0][sample_order(pool.samples, experiment)]
    return lambda: fcnn(inputs.shape[1], elu_output=pool.elu_output), inputs


def _lenet5(
    experiment: CrossPoolMeasurement, dataset: Dataset
) -> tuple[Callable[[], nn.Module], Tensor]:
    training = experiment.training
    inputs, labels = lenet5_images(dataset, training.train_size, training.device).train
    return LeNet5, inputs[sample_order(len(labels), experiment)].double()


MODULES = {"fcnn": _fcnn, "lenet5": _lenet5}


def sample_order(available: int, experiment: CrossPoolMeasurement) -> Tensor:
    """Draws the training samples to measure on, with seed 0: the same for every model.

    Args:
        available: training samples.
        experiment: how many of them are measured.

    Returns:
        Their numbers, int64.

    Raises:
        UserError: fewer than asked for.
    """
    if experiment.samples > available:
        raise UserError(
            f"cross.samples: {experiment.samples} asked for, pool {experiment.training.pool} has "
            f"{available} training samples"
        )
    order = torch.randperm(available, generator=torch.Generator().manual_seed(0))
    return order[: experiment.samples]
