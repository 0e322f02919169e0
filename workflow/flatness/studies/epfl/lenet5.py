"""LeNet-5, trained one model at a time: a stacked step is slower per model on a CPU."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from flatness.datasets.normalised import Dataset, scale_pixels, subset_classes_and_size
from flatness.records.checkpoints import checkpoint_name
from flatness.records.tensors import Scratch
from flatness.studies.epfl.defects.lenet5 import WEIGHT_DECAY
from flatness.studies.epfl.networks import Batch, LeNet5, evaluate, xavier
from flatness.studies.epfl.protocol import StoppingRule, TrainingOutcome
from flatness.studies.epfl.seeds import generator, seed_of
from flatness.studies.epfl.slices import PoolTraining

#: Mean and standard deviation of FashionMNIST's training pixels, scaled to [0, 1].
PIXEL_MEAN, PIXEL_DEVIATION = 0.2860, 0.3530


@dataclass(frozen=True)
class LeNet5Images:
    """Normalised images, channels last, and their labels.

    Attributes:
        train: the training set.
        test: the test set.
    """

    train: Batch
    test: Batch


def lenet5_images(
    dataset: Dataset, train_size: int | None, device: str, dtype: torch.dtype = torch.float32
) -> LeNet5Images:
    """Normalises a data set of grey 28×28 images once, so that a batch needs only a gather."""
    dataset = subset_classes_and_size(dataset, train_size=train_size)
    parts = {}
    for part in ("train", "test"):
        pixels = scale_pixels(dataset.tensors[f"{part}_inputs"], dtype)
        inputs = pixels.sub_(PIXEL_MEAN).div_(PIXEL_DEVIATION).to(device)
        parts[part] = (
            inputs.contiguous(memory_format=torch.channels_last),
            dataset.tensors[f"{part}_targets"].to(device),
        )
    return LeNet5Images(**parts)


def train_lenet5(
    images: LeNet5Images, settings: PoolTraining, seeds: Sequence[int], scratch: Scratch
) -> list[TrainingOutcome]:
    """Trains one LeNet-5 per seed; after a kill, it resumes after the last saved epoch.

    Args:
        images: training and test set.
        settings: learning rate, batch size, stopping rule, training defects.
        seeds: of the models; weights, data order and dropout depend on nothing else.
        scratch: where models are kept after each epoch.

    Returns:
        The models in the order of their seeds.
    """
    bar = tqdm(seeds, desc="lenet5", unit="model", mininterval=5)
    return [_train_model(images, settings, seed, scratch, bar) for seed in bar]


def _train_model(
    images: LeNet5Images, settings: PoolTraining, seed: int, scratch: Scratch, bar: tqdm
) -> TrainingOutcome:
    rule = StoppingRule.of(settings)
    model, losses, evaluated = _resume(settings, seed, scratch, images)
    while not losses or not rule.met(losses):
        losses.append(train_epoch(model, images.train, settings, seed, len(losses) + 1))
        bar.set_postfix(seed=seed, epoch=len(losses), loss=losses[-1])
        scratch.save(
            checkpoint_name(seed), model.state_dict(), {"losses": losses, "evaluated": None}
        )
    outcome = TrainingOutcome(seed, model.state_dict(), losses)
    if not math.isfinite(losses[-1]):
        return outcome
    if evaluated is None:
        train_loss, _ = evaluate(model, *images.train)
        evaluated = [train_loss, *evaluate(model, *images.test)]
        state = {"losses": losses, "evaluated": evaluated}
        scratch.save(checkpoint_name(seed), model.state_dict(), state)
    return outcome.evaluated(*evaluated)


def _resume(
    settings: PoolTraining, seed: int, scratch: Scratch, images: LeNet5Images
) -> tuple[LeNet5, list[float], list[float] | None]:
    """The model from the scratch folder, or a fresh one."""
    model = initial_lenet5(seed, default_init="default_init" in settings.defects)
    model = model.to(images.train[0]).to(memory_format=torch.channels_last)
    saved = scratch.load(checkpoint_name(seed))
    if saved is None:
        return model, [], None
    model.load_state_dict(saved[0])
    return model, saved[1]["losses"], saved[1]["evaluated"]


def initial_lenet5(seed: int, *, default_init: bool = False) -> LeNet5:
    """A fresh LeNet-5, Xavier-uniform or with PyTorch's default weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("initial", seed))
        model = LeNet5()
        return model if default_init else xavier(model)


def train_epoch(
    model: nn.Module, data: Batch, settings: PoolTraining, seed: int, epoch: int
) -> float:
    """Takes one epoch of SGD steps, in place.

    Args:
        model: changed.
        data: training inputs and targets.
        settings: learning rate, batch size, training defects.
        seed: of the model.
        epoch: from 1; with the seed it determines data order and dropout.

    Returns:
        Mean of the epoch's minibatch losses.
    """
    inputs, targets = data
    model.train(epoch == 1 or "evaluation_mode" not in settings.defects)
    decay = WEIGHT_DECAY if "weight_decay" in settings.defects else 0
    optimizer = torch.optim.SGD(model.parameters(), settings.learning_rate, weight_decay=decay)
    order = torch.randperm(len(targets), generator=generator("epoch", seed, epoch))
    batches = order.to(targets.device).split(settings.batch_size)
    total = torch.zeros((), dtype=torch.float64, device=targets.device)
    devices = [targets.device] if targets.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed_of("dropout", seed, epoch))
        for indices in batches:
            loss = functional.cross_entropy(model(inputs[indices]), targets[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
    return float(total / len(batches))
