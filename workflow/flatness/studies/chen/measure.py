"""Measuring the checkpoints of a block: sharpness, compression, bounds, and the Hessian's trace.

Weights are float32 as trained, but are measured in float64, so that the theorems can be checked to
rounding and volumes keep their digits.
"""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from torch import Tensor, nn
from tqdm import tqdm

from flatness.errors import NumericalError
from flatness.measures.hessian import hessian_trace
from flatness.measures.measure import measure
from flatness.measures.quantities import QUANTITIES
from flatness.records.checkpoints import checkpoint_name, load_checkpoints
from flatness.records.frozen import content_hash
from flatness.records.tables import provenance, read_table, write_table
from flatness.studies.chen.config import Measurement
from flatness.studies.chen.crossings import interpolates
from flatness.studies.chen.images import (
    Images,
    Labelled,
    build_network,
    load_images,
    measured_samples,
    predict,
)
from flatness.studies.chen.inequalities import check_theorems
from flatness.studies.chen.measured_rows import MeasuredCheckpoint
from flatness.studies.chen.rows import Checkpoint, TrainedCheckpoint

#: Hessian-vector products of each of three estimates of the trace.
TRACE_PRODUCTS = 12


def measure_block(
    experiment: Annotated[str, typer.Option(help="measuring slice of the config, as JSON")],
    data: Annotated[Path, typer.Option(help="normalised data file")],
    final: Annotated[Path, typer.Option(help="weights that are compared")],
    trajectory: Annotated[Path, typer.Option(help="weights at other steps")],
    training: Annotated[Path, typer.Option(help="table of checkpoints from training")],
    output: Annotated[Path, typer.Option(help="table of measurements to write")],
) -> None:
    """Measures every chosen checkpoint of a block and checks the theorems."""
    chosen = Measurement.model_validate_json(experiment)
    images = load_images(data, chosen, torch.float64)
    models = load_checkpoints(trajectory)[0] | load_checkpoints(final)[0]
    checkpoints = read_table(training, TrainedCheckpoint)
    made = provenance(content_hash(chosen), device=chosen.device)
    rows = []
    # The config does not know steps found during training: then every checkpoint is measured.
    wanted = checkpoints[checkpoints["step"].isin(chosen.steps) | bool(chosen.losses)]
    for line in tqdm(wanted.to_dict("records"), unit="checkpoint", mininterval=2):
        common = checkpoint_columns(line, chosen) | made
        name = checkpoint_name(line["seed"], line["step"])
        try:
            measured = list(measure_checkpoint(chosen, models.get(name, {}), images, common))
        except NumericalError as error:
            place = final if line["step"] == chosen.end else trajectory
            raise NumericalError(f"{place}: {name}: {error}") from error
        rows += [MeasuredCheckpoint(**common, **columns) for columns in measured]
    check_theorems(pd.DataFrame([row.model_dump() for row in rows]))
    write_table(output, rows)


def checkpoint_columns(line: dict[str, Any], experiment: Measurement) -> dict[str, Any]:
    """The columns of a checkpoint that do not depend on the measured images.

    Args:
        line: its row of `TrainedCheckpoint`.
        experiment: the measurement.

    Returns:
        Columns of `MeasuredCheckpoint`.
    """
    own = {name: line[name] for name in Checkpoint.model_fields}
    return own | {
        "network": experiment.network,
        "learning_rate": experiment.setting.learning_rate,
        "batch_size": experiment.setting.batch_size,
        "last": line["step"] == experiment.end,
        "interpolated": interpolates(line["train_loss"], line["train_accuracy"]),
        "accuracy_gap": 100 * (line["train_accuracy"] - line["test_accuracy"]),
    }


def measure_checkpoint(
    experiment: Measurement, weights: dict[str, Tensor], images: Images, columns: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Measures one checkpoint on each kind of image asked for.

    Args:
        experiment: what is measured.
        weights: the parameters; empty for a diverged model, whose row is NaN.
        images: of the family, float64.
        columns: the checkpoint's other columns.

    Yields:
        The remaining columns of `MeasuredCheckpoint`, for training images first.
    """
    train = measured_samples(images.train, experiment.samples)
    if not weights:
        yield undefined("train", len(train))
        return
    model = build_network(experiment, seed=0).double()
    model.load_state_dict(weights)
    counted = columns["seed"] - experiment.setting.first_seed
    by_sampling = columns["last"] and counted < experiment.trace_seeds
    measured = measure_images(model, "train", train, by_sampling=by_sampling)
    yield measured | _trace(model, train, wanted=by_sampling and columns["interpolated"])
    for sampled, part in sampled_test_images(experiment, model, images.test).items():
        yield measure_images(model, sampled, part) if len(part) else undefined(sampled, 0)


def sampled_test_images(
    experiment: Measurement, model: nn.Module, test: Labelled
) -> dict[str, Labelled]:
    """The test images to measure on: a sample, and its misclassified images.

    Args:
        experiment: says how many test images.
        model: the network.
        test: all test images.

    Returns:
        Nothing, or "test" and "misclassified" with their images.
    """
    if experiment.test_samples == 0:
        return {}
    asked = len(test) if experiment.test_samples is None else experiment.test_samples
    sample = measured_samples(test, min(asked, len(test)))
    wrong = predict(model, sample.inputs).argmax(1) != sample.labels
    return {"test": sample, "misclassified": sample.take(wrong)}


def measure_images(
    model: nn.Module, sampled: str, images: Labelled, *, by_sampling: bool = False
) -> dict[str, Any]:
    """All measures on some images.

    Args:
        model: the network, float64.
        sampled: what the images are: "train", "test" or "misclassified".
        images: at least one.
        by_sampling: whether to measure the sampled average-case sharpness too.

    Returns:
        Columns of `MeasuredCheckpoint`.
    """
    columns = undefined(sampled, len(images))
    found = measure(model, images.inputs, images.targets if by_sampling else None)
    for name, estimate in found.items():
        columns |= {name: estimate.value, f"{name}_se": estimate.standard_error}
    return columns


def _trace(model: nn.Module, images: Labelled, *, wanted: bool) -> dict[str, float]:
    """The columns of the Hessian's trace, estimated in float32."""
    if not wanted:
        return {}
    single = copy.deepcopy(model).float()
    inputs, targets = images.inputs.float(), images.targets.float()
    found = hessian_trace(single, inputs, targets, estimates=3, products=TRACE_PRODUCTS)
    return {"hessian_trace": found.value, "hessian_trace_se": found.standard_error}


def undefined(sampled: str, samples: int) -> dict[str, Any]:
    """The measured columns if there is nothing to measure: NaN."""
    names = ["hessian_trace", *QUANTITIES]
    values = dict.fromkeys([*names, *(f"{name}_se" for name in names)], math.nan)
    return {"sampled": sampled, "samples": samples} | values
