"""The LeNet-5's notebook against the report."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from flatness.studies.epfl.networks import Batch
    from flatness.studies.epfl.slices import PoolMeasurement

#: Defects of training: options of `lenet5.initial_lenet5` and `lenet5.train_epoch`.
TRAINING = {
    "default_init": "PyTorch's default initial weights in place of Xavier's",
    "weight_decay": "weight decay 5e-3",
    "evaluation_mode": "no dropout and frozen batch norm from the second epoch on",
}
#: Defects of measuring: `rises`.
MEASURING = {
    "moved_centre": "the saved centre shares storage: the first step moves it",
    "train_batch_norm": "batch norm normalises by the batch and moves its statistics",
    "train_dropout": "dropout is on during the ascent",
    "whole_set": "one ascent of 5 epochs over all images; the best epoch's loss on all images",
}

WEIGHT_DECAY = 5e-3


def rises(
    model: nn.Module, settings: PoolMeasurement, data: Batch, generator: torch.Generator
) -> Tensor:
    """Loss rises of one LeNet-5.

    Args:
        model: trained; left as it is.
        settings: ascent and defects.
        data: training inputs and targets.
        generator: draws the batches; dropout draws from PyTorch's global generator.

    Returns:
        (restarts,); one restart under `whole_set`.
    """
    import torch

    from flatness.measures.ascent import draw_batches

    inputs, targets = data
    ascent = settings.ascent
    if "whole_set" in settings.defects:
        orders = [torch.randperm(len(targets), generator=generator) for _ in range(ascent.steps)]
        passes = [
            ((inputs[indices], targets[indices]) for indices in order.split(ascent.batch_size))
            for order in orders
        ]
        found = [_rise(model, settings, passes, data)]
        return torch.tensor(found, dtype=torch.float64)
    found = []
    (batches,) = draw_batches(len(targets), ascent.restarts, ascent.batch_size, [generator])
    for indices in batches:
        drawn = inputs[indices], targets[indices]
        found.append(_rise(model, settings, [[drawn]] * ascent.steps, drawn))
    return torch.tensor(found, dtype=torch.float64)


def _rise(
    model: nn.Module, settings: PoolMeasurement, passes: Iterable[Iterable[Batch]], scored: Batch
) -> float:
    """Highest loss on `scored` after a pass, less the loss before the first."""
    import torch
    from torch.nn import functional

    from flatness.studies.epfl.networks import evaluate

    model = copy.deepcopy(model)
    clean, highest = evaluate(model, *scored)[0], -math.inf
    centre = [weights.detach().clone() for weights in model.parameters()]
    move_centre = "moved_centre" in settings.defects
    delta = [torch.zeros_like(weights) for weights in centre]
    for batches in passes:
        _set_modes(model, settings.defects)
        for inputs, targets in batches:
            loss = functional.cross_entropy(model(inputs), targets)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            for index, (weights, gradient) in enumerate(
                zip(model.parameters(), gradients, strict=True)
            ):
                if move_centre:
                    centre[index].add_(gradient, alpha=settings.step_size)
                    moved = delta[index]
                else:
                    moved = delta[index].add_(gradient, alpha=settings.step_size)
                half = settings.rho * centre[index].abs()
                delta[index] = torch.clamp(moved, -half, half)
                weights.data.copy_(centre[index] + delta[index])
            # The projection gives the parameter its own storage: only the first step shares
            # storage.
            move_centre = False
        highest = max(highest, evaluate(model, *scored)[0])
    return highest - clean


def _set_modes(model: nn.Module, defects: Sequence[str]) -> None:
    """Evaluation mode, except for modules that the notebook leaves in training mode."""
    from torch import nn

    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train("train_dropout" in defects)
        if isinstance(module, nn.BatchNorm2d):
            module.train("train_batch_norm" in defects)
