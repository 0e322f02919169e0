"""Average-case adaptive sharpness: from pairs of perturbations, and as the released code does.

E_δ[L(w + δ) − L(w)] / ρ²,   δ_p ~ ρ |w_p| N(0, 1),   L = Σ_k (σ(f)_k − y_k)², mean over images
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from flatness.estimates import Estimate, mean
from flatness.transformers.config import Perturbations


@dataclass(frozen=True)
class AdaptiveSharpness:
    """Average-case adaptive sharpness.

    Attributes:
        estimate: mean over images and perturbations; its standard error counts both.
        perturbation_error: the part of the standard error that more perturbations would shrink.
        perturbations: mean over images of the number of perturbations.
    """

    estimate: Estimate
    perturbation_error: float
    perturbations: float


def adaptive_sharpness(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    settings: Perturbations,
    *,
    seed: int,
    chunk: int,
) -> AdaptiveSharpness:
    """Estimates adaptive sharpness, stopping once perturbations add little error.

    Perturbations come in pairs ±δ: what is odd in δ, the gradient foremost, cancels exactly, and
    the mean is the same. All images see the same pairs, so one pass serves them all.

    Args:
        model: in evaluation mode; parameters are perturbed, buffers are not.
        images: (n, C, H, W).
        targets: (n, N), one-hot.
        settings: ρ, how many pairs, when to stop, and how many perturbed models to hold at once.
        seed: of the perturbations.
        chunk: images in one pass.

    Returns:
        The estimate; `perturbations` counts pairs.
    """
    weights = _weights(model)
    generator = torch.Generator(images.device).manual_seed(seed)
    clean = _clean_losses(model, weights, images, targets, chunk)
    rises = clean.new_empty(0, len(images))
    while True:
        # Rounds of fixed size, so that when to stop does not hang on the stack.
        for count in _stacks(min(settings.least, settings.most - len(rises)), settings.stack):
            deltas = _draw(weights, settings.rho, count, generator)
            above = _losses(model, _moved(weights, deltas, 1), images, targets, chunk)
            below = _losses(model, _moved(weights, deltas, -1), images, targets, chunk)
            rises = torch.cat([rises, (above + below) / 2 - clean])
        over_images = mean(rises.mean(0) / settings.rho**2)
        over_pairs = mean(rises.mean(1) / settings.rho**2)
        loose = over_pairs.standard_error > settings.tolerance * abs(over_pairs.value)
        if len(rises) == settings.most or not loose:
            break
    # Both errors hold the interaction of image and pair: together they are a little too large.
    error = math.hypot(over_images.standard_error, over_pairs.standard_error)
    return AdaptiveSharpness(
        Estimate(over_pairs.value, error), over_pairs.standard_error, float(len(rises))
    )


def released_adaptive_sharpness(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    settings: Perturbations,
    *,
    seed: int,
) -> AdaptiveSharpness:
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
    weights = _weights(model)
    generator = torch.Generator(images.device).manual_seed(seed)
    means, counts = [], []
    for x, y in zip(images.split(1), targets.split(1), strict=True):
        clean = _clean_losses(model, weights, x, y, chunk=1)
        rises = clean.new_empty(0)
        wanted = settings.least
        while len(rises) < wanted:
            for count in _stacks(wanted - len(rises), settings.stack):
                moved = _moved(weights, _draw(weights, settings.rho, count, generator), 1)
                rise = _losses(model, moved, x, y, chunk=1) - clean
                rises = torch.cat([rises, rise.flatten()])
            spread = rises[: settings.least].std(correction=0).nan_to_num().item()
            asked = math.floor(spread / (10 * settings.rho)) ** 2
            wanted = min(max(asked, settings.least), settings.most)
        means.append(rises.mean() / settings.rho**2)
        counts.append(len(rises))
    estimate = mean(torch.stack(means))
    return AdaptiveSharpness(estimate, math.nan, sum(counts) / len(counts))


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.named_parameters()}


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
    model: nn.Module, weights: dict[str, Tensor], images: Tensor, targets: Tensor, chunk: int
) -> Tensor:
    stacked = {name: value[None] for name, value in weights.items()}
    return _losses(model, stacked, images, targets, chunk)[0]


def _losses(
    model: nn.Module, stacked: dict[str, Tensor], images: Tensor, targets: Tensor, chunk: int
) -> Tensor:
    """Summed squared error of σ(f), (models, n) in float64, for parameters (models, …)."""

    def squared_error(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(model, parameters, (x,)).sigmoid()
        return (outputs - y).square().sum(-1)

    parts = []
    with torch.no_grad():
        for x, y in zip(images.split(chunk), targets.split(chunk), strict=True):
            if len(next(iter(stacked.values()))) == 1:  # spares the rules of vmap
                only = {name: value[0] for name, value in stacked.items()}
                parts.append(squared_error(only, x, y)[None])
            else:
                parts.append(vmap(squared_error, in_dims=(0, None, None))(stacked, x, y))
    return torch.cat(parts, dim=1).double()
