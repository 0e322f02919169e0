"""The verb `measure-cross-chen`: adaptive worst-case sharpness at the end of a family's training.

This is the EPFL study's measure with the *strong* maximiser, for the loss of the compression study,
L = 1/(2n) Σ ||f(x) − y||² (half the sum over outputs, mean over images). Batches are the same for
every model of a family, so that they add no noise to comparisons between models.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from torch import Tensor
from tqdm import tqdm

from flatness.errors import NumericalError
from flatness.measures.worst_case import strong_worst_case_sharpness
from flatness.records.checkpoints import checkpoint_name, load_checkpoints
from flatness.records.frozen import content_hash
from flatness.records.tables import provenance, read_table, write_table
from flatness.studies.chen.images import Labelled, build_network, load_images
from flatness.studies.chen.rows import TrainedCheckpoint
from flatness.studies.cross.config import FamilyMeasurement
from flatness.studies.cross.measures import STRONG
from flatness.studies.cross.rows import CrossMeasurement, no_value, of_value


def measure_family(
    experiment: Annotated[str, typer.Option(help="slice of the config, as JSON")],
    data: Annotated[Path, typer.Option(help="normalised data file")],
    final: Annotated[Path, typer.Option(help="weights that are compared")],
    training: Annotated[Path, typer.Option(help="table of checkpoints from training")],
    output: Annotated[Path, typer.Option(help="table of measurements to write")],
) -> None:
    """Measures the adaptive worst-case sharpness of a block of a family, by sign ascent."""
    chosen = FamilyMeasurement.model_validate_json(experiment)
    images = load_images(data, chosen.training).train
    models = load_checkpoints(final)[0]
    checkpoints = read_table(training, TrainedCheckpoint)
    last = checkpoints[checkpoints["step"] == chosen.training.end]
    made = provenance(content_hash(chosen), device=chosen.training.device)
    rows = []
    for line in tqdm(last.to_dict("records"), unit="model", mininterval=2):
        found = (
            no_value("diverged", line["reason"])
            if line["diverged"]
            else worst_case(chosen, models[checkpoint_name(line["seed"], line["step"])], images)
        )
        common = {name: line[name] for name in ("dataset", "demo", "setting", "seed")}
        rows.append(
            CrossMeasurement(models=line["family"], measure=STRONG, **common, **found, **made)
        )
    write_table(output, rows)


def worst_case(
    experiment: FamilyMeasurement, weights: dict[str, Tensor], images: Labelled
) -> dict[str, Any]:
    """Adaptive worst-case sharpness of one model.

    Args:
        experiment: radius and batches.
        weights: of the model, float32 as trained.
        images: training images that batches are drawn from.

    Returns:
        Columns value, standard_error, status and reason of `CrossMeasurement`.
    """
    model = build_network(experiment.training, seed=0)
    model.load_state_dict(weights)
    try:
        found = strong_worst_case_sharpness(
            model,
            squared_error,
            (images.inputs, images.targets),
            rho=experiment.rho,
            restarts=experiment.restarts,
            batch_size=experiment.batch_size,
        )
    except NumericalError as error:
        return no_value("not measured", str(error))
    return of_value(found.value, found.standard_error)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """L = 1/(2n) Σ ||f(x) − y||² of outputs and targets (n, N)."""
    return (outputs - targets).square().sum(1).mean() / 2
