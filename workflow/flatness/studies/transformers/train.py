"""Trains small models of timm from scratch: AdamW, one model after the other.

The loss is binary cross-entropy, one class against the rest, since the measures use σ(f). Models
trained with softmax are far from a minimum of the measured loss: terms of both signs then dominate
average-case sharpness (on CIFAR-10, a relative standard error of 7 instead of 0.06).

A job that was killed at any point and run again gives the same bytes: data order and flips follow
from seed and epoch, and the state contains weights, moments and the global generator (drop path).
"""

import math
import time
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from flatness.datasets.normalised import load
from flatness.measures.workarounds import mended
from flatness.records.checkpoints import restore_training, save_checkpoints, training_tensors
from flatness.records.frozen import content_hash
from flatness.records.tables import provenance, write_table
from flatness.records.tensors import Scratch
from flatness.studies.transformers.config import TrainingFromScratch, VitModel, VitTraining
from flatness.studies.transformers.images import SmallImages, small_images
from flatness.studies.transformers.models import build, family
from flatness.studies.transformers.rows import TrainedVit

SAVE_SECONDS = 20.0  # between saved states; no result depends on it


def train_models(
    experiment: Annotated[str, typer.Option(help="training slice of the config, as JSON")],
    data: Annotated[Path, typer.Option(help="data set written by fetch")],
    scratch: Annotated[Path, typer.Option(help="folder of resumable state")],
    output: Annotated[Path, typer.Option(help="weights to write, .safetensors")],
    table: Annotated[Path, typer.Option(help="training table to write")],
) -> None:
    """Trains one block of small transformers."""
    settings = VitTraining.model_validate_json(experiment)
    dataset = load(data)
    identity = content_hash(settings)
    weights: dict[str, dict[str, Tensor]] = {}
    rows = []
    with Scratch(scratch, identity) as state:
        for model in settings.models:
            images = small_images(dataset, "train", model.image_size, settings.device)
            classes = int(images.labels.max()) + 1
            module = build(model, classes, settings.training.seed).to(settings.device)
            start_at_base_rate(module, classes)
            losses = train(module, images, settings.training, state, model)
            diverged = not math.isfinite(losses[-1])
            tail = losses[-max(1, len(losses) // 10) :]
            rows.append(
                TrainedVit(
                    model=model.name,
                    family=family(model),
                    dataset=dataset.name,
                    demo=dataset.demo,
                    parameters=sum(p.numel() for p in module.parameters()),
                    images_seen=len(losses) * settings.training.batch_size,
                    last_train_loss=math.fsum(tail) / len(tail),
                    diverged=diverged,
                    reason=f"loss not finite at step {len(losses)}" if diverged else "",
                    **provenance(identity, device=settings.device),
                )
            )
            weights[model.name] = module.state_dict()
    save_checkpoints(output, weights, {"diverged": {row.model: row.reason for row in rows}})
    write_table(table, rows)


@mended()
def train(
    module: nn.Module,
    images: SmallImages,
    settings: TrainingFromScratch,
    state: Scratch,
    model: VitModel,
) -> list[float]:
    """Trains one model, starting from its saved state.

    Args:
        module: fresh weights; trained in place.
        images: training images.
        settings: the recipe.
        state: where the state is kept, under the model's name.
        model: which model.

    Returns:
        Loss of every step; the last is not finite if training was stopped.
    """
    steps = max(1, settings.images // settings.batch_size)
    optimizer = torch.optim.AdamW(
        module.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        losses = _resume(module, optimizer, state, model.name)
        module.train()
        saved = time.monotonic()
        bar = tqdm(range(len(losses), steps), desc=model.name, initial=len(losses), total=steps)
        for step in bar:
            if losses and not math.isfinite(losses[-1]):
                break
            rate = settings.learning_rate * rise_and_fall((step + 1) / (steps + 1), settings.rise)
            batch = _batch(images, settings, step)
            losses.append(_step(module, optimizer, batch, rate, settings.smoothing))
            if step + 1 == steps or time.monotonic() - saved > SAVE_SECONDS:
                _save(module, optimizer, state, model.name, losses)
                bar.set_postfix(loss=f"{losses[-1]:.3f}")
                saved = time.monotonic()
    return losses


def _step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    rate: float,
    smoothing: float,
) -> float:
    """Takes one step at a learning rate; returns the loss before it."""
    inputs, labels = batch
    optimizer.param_groups[0]["lr"] = rate
    loss = one_against_rest(module(inputs), labels, smoothing)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def start_at_base_rate(module: nn.Module, classes: int) -> None:
    """Sets the head's biases to log(1 / (classes − 1)): each class begins at its share of images.

    Otherwise the first hundred training steps only learn that classes are rare.
    """
    heads = module.get_classifier()
    for head in heads if isinstance(heads, tuple) else (heads,):
        for part in head.modules():
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.constant_(part.bias, -math.log(classes - 1))


def one_against_rest(outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Binary cross-entropy summed over classes, mean over images.

    Args:
        outputs: (n, N).
        labels: (n,).
        smoothing: share of each one-hot target that is spread evenly over all classes.

    Returns:
        Scalar.
    """
    classes = outputs.shape[1]
    targets = functional.one_hot(labels, classes).to(outputs.dtype)
    targets = (1 - smoothing) * targets + smoothing / classes
    total = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")
    return total / len(labels)


def rise_and_fall(progress: float, rise: float) -> float:
    """Share of the learning rate: linear up to 1 at `rise`, linear down to 0 at the end."""
    return progress / rise if progress < rise else (1 - progress) / (1 - rise)


def _batch(images: SmallImages, settings: TrainingFromScratch, step: int) -> tuple[Tensor, Tensor]:
    """Batch `step`: each epoch a new order; the last batch of an epoch is dropped if short."""
    per_epoch = max(1, len(images) // settings.batch_size)
    epoch, place = divmod(step, per_epoch)
    order, flips = _epoch(len(images), settings.seed, epoch)
    index = order[place * settings.batch_size : (place + 1) * settings.batch_size]
    inputs, labels = images.take(index)
    if settings.flip:
        flip = flips[index].to(inputs.device).view(-1, 1, 1, 1)
        inputs = torch.where(flip, inputs.flip(-1), inputs)
    return inputs, labels


@lru_cache(maxsize=1)
def _epoch(count: int, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Order of the images and whether each is flipped, both (count,)."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=generator)
    return order, torch.rand(count, generator=generator) < 0.5


def _save(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Scratch,
    name: str,
    losses: list[float],
) -> None:
    tensors = training_tensors(module, optimizer)
    tensors["generator"] = torch.get_rng_state()
    if next(module.parameters()).is_cuda:
        tensors["cuda_generator"] = torch.cuda.get_rng_state()
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    state.save(name, tensors, {})


def _resume(
    module: nn.Module, optimizer: torch.optim.Optimizer, state: Scratch, name: str
) -> list[float]:
    """Restores a saved state, if there is one; returns the losses so far."""
    found = state.load(name)
    if found is None:
        return []
    tensors, _ = found
    restore_training(module, optimizer, tensors)
    torch.set_rng_state(tensors["generator"])
    if "cuda_generator" in tensors:
        torch.cuda.set_rng_state(tensors["cuda_generator"])
    return tensors["losses"].tolist()
