"""Average-case adaptive sharpness: from rounds of new pairs and images, and as released.

E_δ[L(w + δ) − L(w)] / ρ²,   δ_p ~ ρ |w_p| N(0, 1),   L = Σ_k (σ(f)_k − y_k)², mean over images
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.func import vmap

from flatness.measures.estimates import Estimate, mean
from flatness.measures.functional import functional_call
from flatness.measures.measuring import without_bias_caches
from flatness.studies.transformers.config import Perturbations

LOOK = 10  # rounds between checks of the standard error


@dataclass(frozen=True)
class AverageCaseEstimate:
    """Average-case adaptive sharpness.

    Attributes:
        estimate: mean over images and perturbations, with its standard error.
        images: images behind it, repeats counted.
        perturbations: perturbations behind it, a pair ±δ counted once.
    """

    estimate: Estimate
    images: int
    perturbations: int


def average_case_sharpness(
    model: nn.Module,
    rounds: Iterator[tuple[Tensor, Tensor]],
    settings: Perturbations,
    *,
    seed: int,
) -> AverageCaseEstimate:
    """Estimates average-case sharpness in independent rounds until the standard error is small.

    A round is the mean over new images of a new pair ±δ. Terms that are odd in δ, mainly the
    gradient, cancel exactly, and the spread of the rounds includes both images and perturbations.

    Args:
        model: in evaluation mode; parameters are perturbed, buffers are not.
        rounds: images (n, C, H, W) and one-hot targets (n, N) of each round, `most` or more.
        settings: ρ, when to stop, and how many perturbed models to hold at once.
        seed: of the perturbations.

    Returns:
        The estimate; its standard error is over rounds.
    """
    weights, generator = _weights(model, seed)
    rises: list[Tensor] = []
    images = 0
    while True:
        for count in _stacks(min(LOOK, settings.pairs.most - len(rises)), settings.stack):
            x, y = (torch.stack(part) for part in zip(*islice(rounds, count), strict=True))
            deltas = _draw(weights, settings.rho, count, generator)
            above = _losses(model, _moved(weights, deltas, 1), x, y)
            below = _losses(model, _moved(weights, deltas, -1), x, y)
            clean = _clean_losses(model, weights, x.flatten(0, 1), y.flatten(0, 1))
            rises.extend(((above + below) / 2 - clean.view_as(above)).mean(1))
            images += clean.numel()
        estimate = mean(torch.stack(rises) / settings.rho**2)
        loose = estimate.standard_error > settings.pairs.tolerance * abs(estimate.value)
        enough = len(rises) >= settings.pairs.least and not loose
        if enough or len(rises) == settings.pairs.most:
            return AverageCaseEstimate(estimate, images, len(rises))


def released_average_case_sharpness(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    settings: Perturbations,
    *,
    seed: int,
) -> AverageCaseEstimate:
    """Estimates the same quantity as the released code does: single δ, new ones for each image.

    After `least` perturbations whose losses have standard deviation s, an image gets
    floor(s / 10ρ)² in all, at least `least` and at most `most`.

    Args:
        model: in evaluation mode.
        images: (n, C, H, W).
        targets: (n, N), one-hot.
        settings: ρ, how many perturbations, and how many perturbed models to hold at once.
        seed: of the perturbations.

    Returns:
        The estimate; its standard error is over images.
    """
    weights, generator = _weights(model, seed)
    least, most = settings.single.least, settings.single.most
    means, perturbations = [], 0
    for x, y in zip(images.split(1), targets.split(1), strict=True):
        clean = _clean_losses(model, weights, x, y)
        rises = clean[:0]
        wanted = least
        while len(rises) < wanted:
            for count in _stacks(wanted - len(rises), settings.stack):
                moved = _moved(weights, _draw(weights, settings.rho, count, generator), 1)
                same = (part.expand(count, *part.shape) for part in (x, y))
                rises = torch.cat([rises, _losses(model, moved, *same).flatten() - clean])
            spread = rises[:least].std(correction=0).nan_to_num().item()
            wanted = min(max(math.floor(spread / (10 * settings.rho)) ** 2, least), most)
        means.append(rises.mean() / settings.rho**2)
        perturbations += len(rises)
    return AverageCaseEstimate(mean(torch.stack(means)), len(images), perturbations)


def _weights(model: nn.Module, seed: int) -> tuple[dict[str, Tensor], torch.Generator]:
    """Parameters by name, and a generator on their device."""
    weights = {name: value.detach() for name, value in model.named_parameters()}
    device = next(iter(weights.values())).device
    return weights, torch.Generator(device).manual_seed(seed)


def _stacks(count: int, size: int) -> list[int]:
    """Splits a number of perturbations into stacks."""
    return [min(size, count - start) for start in range(0, count, size)]


def _draw(
    weights: dict[str, Tensor], rho: float, count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Perturbations δ, (count, …) a parameter, drawn one after the other."""
    deltas = {name: value.new_empty(count, *value.shape) for name, value in weights.items()}
    for row in range(count):
        for name, value in weights.items():
            deltas[name][row].normal_(generator=generator).mul_(rho * value.abs())
    return deltas


def _moved(weights: dict[str, Tensor], deltas: dict[str, Tensor], sign: int) -> dict[str, Tensor]:
    return {name: value + sign * deltas[name] for name, value in weights.items()}


def _clean_losses(
    model: nn.Module, weights: dict[str, Tensor], images: Tensor, targets: Tensor
) -> Tensor:
    """Losses (n,) of the unperturbed model."""
    single = {name: value[None] for name, value in weights.items()}
    return _losses(model, single, images[None], targets[None])[0]


def _losses(
    model: nn.Module, stacked: dict[str, Tensor], images: Tensor, targets: Tensor
) -> Tensor:
    """Sums the squared error of σ(f); every model sees its own images.

    Args:
        model: defines the computation; its own parameters are not used.
        stacked: parameters, (models, …).
        images: (models, n, C, H, W).
        targets: (models, n, N).

    Returns:
        (models, n), float64.
    """

    def squared_error(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(model, parameters, (x,)).sigmoid()
        return (outputs - y).square().sum(-1)

    with torch.no_grad(), without_bias_caches(model):
        if len(images) == 1:  # avoids the rules of vmap
            only = {name: value[0] for name, value in stacked.items()}
            return squared_error(only, images[0], targets[0])[None].double()
        return vmap(squared_error)(stacked, images, targets).double()
