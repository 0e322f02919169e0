"""Measures normalized MLS and average-case sharpness of one block of transformers."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from flatness.datasets.normalised import load
from flatness.errors import DataError, UserError
from flatness.measures.estimates import UNDEFINED, mean
from flatness.measures.workarounds import mended
from flatness.records.checkpoints import load_checkpoints
from flatness.records.frozen import content_hash
from flatness.records.tables import provenance, write_table
from flatness.records.tensors import Scratch
from flatness.studies.transformers.config import Measuring, VitMeasurement, VitModel
from flatness.studies.transformers.images import (
    LabelledImages,
    batches,
    draw_index,
    endless_batches,
    imagenet_images,
    small_images,
)
from flatness.studies.transformers.models import build, family, load_pretrained
from flatness.studies.transformers.perturb import (
    average_case_sharpness,
    released_average_case_sharpness,
)
from flatness.studies.transformers.pretrained import (
    DOWNLOAD,
    IMAGES_DIR,
    WEIGHTS_DIR,
    require_pretrained,
)
from flatness.studies.transformers.rows import MeasuredVit, VitQuantities
from flatness.studies.transformers.slopes import adam_slopes, jacobian_norms

#: The two quantities of the study, by both estimators.
ESTIMATES = (
    "normalized_mls",
    "normalized_mls_released",
    "average_case_sharpness",
    "average_case_sharpness_released",
)
OUT_OF_MEMORY = "out of memory: lower chunk or perturbations.stack in transformers.measuring"


@dataclass(frozen=True)
class Subject:
    """A model ready to be measured, and the images it is measured on."""

    model: VitModel
    module: nn.Module
    images: LabelledImages
    dataset: str
    demo: bool
    reason: str


def measure_models(
    experiment: Annotated[str, typer.Option(help="measuring slice of the config, as JSON")],
    scratch: Annotated[Path, typer.Option(help="folder of resumable state")],
    output: Annotated[Path, typer.Option(help="table to write")],
    data: Annotated[Path | None, typer.Option(help="data set, for models trained here")] = None,
    checkpoints: Annotated[Path | None, typer.Option(help="their weights, by train")] = None,
    images_dir: Annotated[
        Path | None, typer.Option(envvar=IMAGES_DIR, help="ImageNet's validation folder")
    ] = None,
    weights_dir: Annotated[
        Path | None, typer.Option(envvar=WEIGHTS_DIR, help="folder of pretrained weights")
    ] = None,
    download: Annotated[
        bool, typer.Option(envvar=DOWNLOAD, help="take pretrained weights from the hub")
    ] = False,
) -> None:
    """Measures one block of models, trained here or pretrained; resumes after a kill."""
    settings = VitMeasurement.model_validate_json(experiment)
    if settings.dataset is None:
        names = [model.name for model in settings.models]
        require_pretrained(names, images_dir, weights_dir, download)
        prepare = _pretrained(settings.device, images_dir, weights_dir)
    else:
        prepare = _trained(settings.device, data, checkpoints)
    identity = content_hash(settings)
    rows = []
    with Scratch(scratch, identity) as state:
        for model in tqdm(settings.models, desc="models"):
            found = state.load(model.name)
            if found is None:
                row = measure_model(prepare(model), settings.measuring, settings.device, identity)
                state.save(model.name, {}, row.model_dump())
            else:
                row = MeasuredVit(**found[1])
            rows.append(row)
    write_table(output, rows)


def _trained(
    device: str, data: Path | None, checkpoints: Path | None
) -> Callable[[VitModel], Subject]:
    """How to prepare models trained here."""
    if data is None or checkpoints is None:
        raise UserError("models trained here: give --data and --checkpoints")
    dataset = load(data)
    models, metadata = load_checkpoints(checkpoints)

    def prepare(model: VitModel) -> Subject:
        images = small_images(dataset, "test", model.image_size, device)
        module = build(model, int(images.labels.max()) + 1, seed=0)
        try:
            module.load_state_dict(models[model.name])
            reason = metadata["diverged"][model.name]
        except (KeyError, RuntimeError) as error:
            raise DataError(
                f"{checkpoints}: lacks the weights of {model.name}; delete it and train again"
            ) from error
        return Subject(model, module.to(device).eval(), images, dataset.name, dataset.demo, reason)

    return prepare


def _pretrained(
    device: str, images_dir: Path, weights_dir: Path | None
) -> Callable[[VitModel], Subject]:
    """How to prepare pretrained models."""

    def prepare(model: VitModel) -> Subject:
        module = load_pretrained(model, weights_dir).to(device)
        images = imagenet_images(images_dir, module, device)
        return Subject(model, module, images, "imagenet", demo=False, reason="")

    return prepare


def measure_model(
    subject: Subject, measuring: Measuring, device: str, identity: str
) -> MeasuredVit:
    """Evaluates and measures one model; if it cannot be measured, its row says why.

    Args:
        subject: the model and its test images.
        measuring: how to measure.
        device: kind of device.
        identity: hash of the settings.

    Returns:
        The row.
    """
    subject.module.requires_grad_(False)
    index = draw_index(subject.images, measuring.evaluated, measuring.seed)
    test_loss, test_accuracy = evaluate(subject.module, batches(subject.images, index))
    quantities, reason = _measure_or_say_why(subject, measuring)
    return MeasuredVit(
        model=subject.model.name,
        family=family(subject.model),
        dataset=subject.dataset,
        demo=subject.demo,
        pretrained=subject.dataset == "imagenet",
        parameters=sum(p.numel() for p in subject.module.parameters()),
        input_size=subject.images.take(index[:1])[0].shape[-1],
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        evaluated=len(index),
        untrained=not test_accuracy >= measuring.untrained_below,
        reason=reason,
        **quantities.model_dump(),
        **provenance(identity, device=device),
    )


def _measure_or_say_why(subject: Subject, measuring: Measuring) -> tuple[VitQuantities, str]:
    """The quantities, and why one is missing; empty if none is."""
    if subject.reason:
        return VitQuantities.missing(), subject.reason
    try:
        found = measure(subject.module, subject.images, measuring)
    except torch.OutOfMemoryError:
        return VitQuantities.missing(), OUT_OF_MEMORY
    lost = [name for name in ESTIMATES if not math.isfinite(getattr(found, name))]
    return found, f"not finite: {', '.join(lost)}" if lost else ""


@mended()
def evaluate(module: nn.Module, labelled: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Cross-entropy and accuracy over labelled images."""
    loss, right, count = 0.0, 0, 0
    with torch.no_grad():
        for inputs, labels in labelled:
            outputs = module(inputs)
            loss += functional.cross_entropy(outputs, labels, reduction="sum").item()
            right += int((outputs.argmax(1) == labels).sum())
            count += len(labels)
    return loss / count, right / count


@mended()
def measure(module: nn.Module, images: LabelledImages, measuring: Measuring) -> VitQuantities:
    """Normalized MLS and average-case sharpness by both estimators.

    Args:
        module: in evaluation mode, parameters without gradients.
        images: test images to draw from.
        measuring: how to measure.

    Returns:
        The quantities, with standard errors and quality flags.
    """
    index = draw_index(images, measuring.images, measuring.seed)
    inputs, targets = _with_targets(module, images.take(index))
    found = {"images": len(inputs)} | _measure_mls(module, inputs, measuring)
    seed, how = measuring.seed, measuring.perturbations
    single = released_average_case_sharpness(module, inputs, targets, how, seed=seed)
    drawn = endless_batches(images, how.pairs.images, seed)
    rounds = (_with_targets(module, batch) for batch in drawn)
    paired = average_case_sharpness(module, rounds, how, seed=seed)
    found |= {
        "average_case_sharpness": paired.estimate.value,
        "average_case_sharpness_se": paired.estimate.standard_error,
        "pairs": paired.perturbations,
        "pair_images": paired.images,
        "average_case_sharpness_released": single.estimate.value,
        "average_case_sharpness_released_se": single.estimate.standard_error,
        "perturbations_released": single.perturbations,
    }
    reliable = {
        f"reliable{suffix}": all(
            found[f"{name}{suffix}_se"] < measuring.quality * abs(found[f"{name}{suffix}"])
            for name in ("normalized_mls", "average_case_sharpness")
        )
        for suffix in ("", "_released")
    }
    reliable["reliable"] &= found["mls_unconverged"] < measuring.quality * len(inputs)
    return VitQuantities(**found, **reliable)


def _measure_mls(module: nn.Module, inputs: Tensor, measuring: Measuring) -> dict[str, float]:
    """The columns of normalized MLS."""

    def squashed(x: Tensor) -> Tensor:
        return module(x).sigmoid()

    options = {"seed": measuring.seed, "chunk": measuring.chunk}
    exact = jacobian_norms(squashed, inputs, measuring.power, **options)
    slopes = adam_slopes(squashed, inputs, measuring.adam, **options)
    squares = inputs.flatten(1).square().sum(1)
    ended = exact.values.isfinite()
    normalized_mls = mean((squares * exact.values.square())[ended]) if ended.any() else UNDEFINED
    normalized_mls_released = mean(squares * slopes.square())
    return {
        "normalized_mls": normalized_mls.value,
        "normalized_mls_se": normalized_mls.standard_error,
        "mls": exact.values.nanmean().item(),
        "mls_unconverged": int((~ended).sum()),
        "mls_residual": exact.residuals.max().item(),
        "mls_iterations": exact.iterations.double().mean().item(),
        "normalized_mls_released": normalized_mls_released.value,
        "normalized_mls_released_se": normalized_mls_released.standard_error,
        "tightness": (slopes / exact.values).nanmedian().item(),
    }


def _with_targets(module: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Inputs and one-hot targets (n, N) of a batch of inputs and labels."""
    inputs, labels = batch
    with torch.no_grad():
        classes = module(inputs[:1]).shape[1]
    return inputs, functional.one_hot(labels, classes).to(inputs.dtype)
