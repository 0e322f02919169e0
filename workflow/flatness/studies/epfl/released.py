"""The ascents of the released notebooks, one function a pool, each defect a switch of its own.

With no defect each equals the written measure; `MEASURING_DEFECTS` says what the switches do.
"""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from flatness.measures.ascent import Parameters, ascent_path, box, draw_batches
from flatness.studies.epfl.config import PoolMeasurement
from flatness.studies.epfl.lenet5 import Batch, evaluate
from flatness.studies.epfl.pools import FcnnPool, GatPool

FCNN_PASSES = 6
GAT_RESTARTS = 5


def fcnn_rises(
    pool: FcnnPool,
    settings: PoolMeasurement,
    centre: Parameters,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Loss rises of a stack of FCNNs.

    Args:
        pool: data and network.
        settings: ascent and defects.
        centre: trained weights, (M, ...).
        generators: one a model; they draw the batches.

    Returns:
        (M, restarts); one restart under `full_batches`.
    """
    defects = settings.defects
    half_width = box(centre, settings.rho)
    if "missing_absolute_value" in defects:
        # w ± ρw: for a negative weight the lower bound exceeds the upper, and clamp returns the
        # upper one, so that δ = ρw whatever the gradient says.
        half_width = {name: settings.rho * weights for name, weights in centre.items()}
    if "full_batches" in defects:
        restarts = [pool.whole]
        passes, length = FCNN_PASSES, math.ceil(pool.samples / settings.ascent.batch_size)
    else:
        ascent = settings.ascent
        drawn = draw_batches(pool.samples, ascent.restarts, ascent.batch_size, generators)
        restarts = [partial(pool.losses, batch=batch) for batch in pool.batch(drawn).unbind(1)]
        passes, length = settings.ascent.steps, 1
    rises = []
    for losses in restarts:
        path = ascent_path(losses, centre, half_width, _move(settings), passes * length)
        kept = end_of_pass(path, length) if "end_of_pass" in defects else path[1:].amax(0)
        rises.append(kept - path[0])
    return torch.stack(rises, dim=1)


def end_of_pass(path: Tensor, length: int) -> Tensor:
    """Loss at the end of the pass whose steps have the largest sum of losses after each update.

    Args:
        path: (passes · length + 1, M) losses along an ascent, its start included.
        length: steps a pass.

    Returns:
        (M,).
    """
    sums = path[1:].unflatten(0, (-1, length)).sum(1)
    return path[length::length].gather(0, sums.argmax(0, keepdim=True))[0]


def gat_rises(
    pool: GatPool,
    settings: PoolMeasurement,
    centre: Parameters,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Loss rises of a stack of GATs.

    Under `single_draw` all restarts share one loss at the centre: the spread over restarts leaves
    that loss's own noise out.

    Args:
        pool: graph and network.
        settings: ascent and defects.
        centre: trained weights, (M, ...).
        generators: one a model; they draw batches and dropout.

    Returns:
        (M, restarts).
    """
    defects = settings.defects
    dropout = generators if "train_dropout" in defects else None
    restarts = GAT_RESTARTS if "five_restarts" in defects else settings.ascent.restarts
    drawn = draw_batches(pool.samples, restarts, settings.ascent.batch_size, generators)
    clean, rises = None, []
    for indices in drawn.unbind(1):
        climbed = pool.batch(indices, collapse="collapsed_masks" in defects)

        def score(parameters: Parameters, climbed: Tensor = climbed) -> Tensor:
            scored = [climbed]
            if "mismatched_loss" in defects:
                scored = _all_nodes(pool, settings, generators)
            return sum(pool.losses(parameters, batch, dropout) for batch in scored)

        climb = partial(pool.losses, batch=climbed, dropout=dropout)
        half_width = box(centre, settings.rho)
        path = ascent_path(
            climb, centre, half_width, _move(settings), settings.ascent.steps, score=score
        )
        if clean is None or "single_draw" not in defects:
            clean = path[0]
        rises.append(path[1:].amax(0) - clean)
    return torch.stack(rises, dim=1)


def _all_nodes(
    pool: GatPool, settings: PoolMeasurement, generators: Sequence[torch.Generator]
) -> list[Tensor]:
    """All training nodes in shuffled batches, the last one smaller.

    The notebook fills its last batch up with repeats of that batch's own last node. A batch is a
    mask, in which repeats count once, so the filling changes nothing.

    Returns:
        Weights of the nodes, (M, nodes), one a batch.
    """
    order = torch.stack([torch.randperm(pool.samples, generator=one) for one in generators])
    return [pool.batch(part) for part in order.split(settings.ascent.batch_size, dim=1)]


def lenet5_rises(
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
    inputs, targets = data
    ascent = settings.ascent
    if "whole_set" in settings.defects:
        orders = [torch.randperm(len(targets), generator=generator) for _ in range(ascent.steps)]
        passes = [
            ((inputs[indices], targets[indices]) for indices in order.split(ascent.batch_size))
            for order in orders
        ]
        rises = [_lenet5_rise(model, settings, passes, data)]
        return torch.tensor(rises, dtype=torch.float64)
    rises = []
    (batches,) = draw_batches(len(targets), ascent.restarts, ascent.batch_size, [generator])
    for indices in batches:
        drawn = inputs[indices], targets[indices]
        rises.append(_lenet5_rise(model, settings, [[drawn]] * ascent.steps, drawn))
    return torch.tensor(rises, dtype=torch.float64)


def _lenet5_rise(
    model: nn.Module, settings: PoolMeasurement, passes: Iterable[Iterable[Batch]], scored: Batch
) -> float:
    """Highest loss on `scored` after a pass, less the loss before the first."""
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
            # The projection gives the parameter storage of its own: only the first step shares.
            move_centre = False
        highest = max(highest, evaluate(model, *scored)[0])
    return highest - clean


def _set_modes(model: nn.Module, defects: Sequence[str]) -> None:
    """Evaluation mode, save for what the notebook leaves in train mode."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train("train_dropout" in defects)
        if isinstance(module, nn.BatchNorm2d):
            module.train("train_batch_norm" in defects)


def _move(settings: PoolMeasurement) -> Callable[[int, Tensor, Tensor], Tensor]:
    return lambda _, gradient, __: settings.step_size * gradient
