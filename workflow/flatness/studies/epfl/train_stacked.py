"""Trains small models in a stack: one batched step for all; each stops independently."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from flatness.measures.ascent import Parameters
from flatness.studies.epfl.networks import stack
from flatness.studies.epfl.pools import StackedPool
from flatness.studies.epfl.protocol import StoppingRule, TrainingOutcome
from flatness.studies.epfl.seeds import generator
from flatness.studies.epfl.slices import PoolTraining


def train_stack(
    pool: StackedPool, settings: PoolTraining, seeds: Sequence[int]
) -> list[TrainingOutcome]:
    """Trains one model per seed; models that stop leave the stack, the others continue.

    Args:
        pool: data and network.
        settings: learning rate, batch size, stopping rule, training defects.
        seeds: of the models; weights and data order depend on nothing else.

    Returns:
        The models in the order of their seeds.
    """
    rule = StoppingRule.of(settings)
    waiting = list(seeds)
    losses: dict[int, list[float]] = {seed: [] for seed in seeds}
    outcomes: dict[int, TrainingOutcome] = {}
    parameters = pool.initial(waiting)
    progress = tqdm(desc=settings.pool, unit="epoch", total=rule.max_epochs, mininterval=5)
    while waiting:
        epoch_losses = train_epoch(pool, settings, parameters, waiting, len(losses[waiting[0]]) + 1)
        for index, seed in enumerate(waiting):
            losses[seed].append(float(epoch_losses[index]))
            if rule.met(losses[seed]):
                state = {name: values[index].clone() for name, values in parameters.items()}
                outcomes[seed] = TrainingOutcome(seed, state, losses[seed])
        going = [index for index, seed in enumerate(waiting) if seed not in outcomes]
        parameters = {name: values[going] for name, values in parameters.items()}
        waiting = [waiting[index] for index in going]
        progress.set_postfix(loss=float(epoch_losses.mean()), training=len(waiting), refresh=False)
        progress.update()
    progress.close()
    return _evaluate(pool, [outcomes[seed] for seed in seeds])


def train_epoch(
    pool: StackedPool,
    settings: PoolTraining,
    parameters: Parameters,
    seeds: Sequence[int],
    epoch: int,
) -> Tensor:
    """Takes one epoch of SGD steps, in place.

    Args:
        pool: data and network.
        settings: learning rate, batch size, training defects.
        parameters: of the stack, (M, ...); changed.
        seeds: of its models.
        epoch: from 1; with the seed it determines data order and dropout.

    Returns:
        Mean of the epoch's minibatch losses, (M,).
    """
    generators = [generator("epoch", seed, epoch) for seed in seeds]
    total, steps = torch.zeros(()), 0
    for losses in step_losses(pool, settings, generators):
        values = losses({n: weights.requires_grad_() for n, weights in parameters.items()})
        gradients = torch.autograd.grad(values.sum(), list(parameters.values()))
        with torch.no_grad():
            for weights, gradient in zip(parameters.values(), gradients, strict=True):
                weights.sub_(gradient, alpha=settings.learning_rate)
        total, steps = total.to(values) + values.detach(), steps + 1
    for weights in parameters.values():
        weights.requires_grad_(False)
    return total / steps


def step_losses(
    pool: StackedPool, settings: PoolTraining, generators: Sequence[torch.Generator]
) -> Iterator[Callable[[Parameters], Tensor]]:
    """The loss functions of an epoch's steps: reshuffled minibatches, the last one smaller.

    Args:
        pool: data and network.
        settings: batch size, training defects.
        generators: one per model.

    Yields:
        Functions that map the stack's parameters to losses (M,).
    """
    order = torch.stack([torch.randperm(pool.samples, generator=one) for one in generators])
    for indices in order.split(settings.batch_size, dim=1):
        if "full_batch_steps" in settings.defects:
            yield pool.whole
        else:
            yield partial(pool.losses, batch=pool.batch(indices), dropout=generators)


def _evaluate(pool: StackedPool, outcomes: list[TrainingOutcome]) -> list[TrainingOutcome]:
    result = pool.evaluate(stack([outcome.state for outcome in outcomes]))
    numbers = torch.stack([result.train_loss, result.test_loss, result.test_accuracy], dim=1)
    return [
        outcome.evaluated(*values)
        for outcome, values in zip(outcomes, numbers.tolist(), strict=True)
    ]
