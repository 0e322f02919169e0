"""MLS at each image: the definition, by power iteration, and the released finite-step estimate.

Both treat each image of a batch independently, so a model must be in evaluation mode.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp, vjp

from flatness.measures.workarounds import never_alone
from flatness.studies.transformers.config import Adam, PowerIteration

ROUND = 8  # power iterations between checks of which images are done


@dataclass(frozen=True)
class Slopes:
    """Largest singular value of the Jacobian at each image.

    Attributes:
        values: (n,), ||J_i||_2; NaN if the iteration did not converge.
        residuals: (n,), ||J_iᵀJ_i v − λv|| / λ for the unit vector v that was found: some
            eigenvalue of J_iᵀJ_i lies within that share of λ = values².
        iterations: (n,), power iterations used.
    """

    values: Tensor
    residuals: Tensor
    iterations: Tensor


def jacobian_norms(
    function: Callable[[Tensor], Tensor],
    images: Tensor,
    settings: PowerIteration,
    *,
    seed: int,
    chunk: int,
) -> Slopes:
    """Computes MLS at each image by its definition, ||J||_2, by power iteration on JᵀJ.

    A step is one Jacobian-vector and one vector-Jacobian product. An image is done when its
    residual is at most `tolerance`; after `limit` steps the iteration stops. A random start misses
    the leading direction with probability zero. It can linger at a second singular value that is
    close to the first; the error is then still within the residual.

    Args:
        function: images (n, C, H, W) to outputs (n, N), each image by itself.
        images: (n, C, H, W).
        settings: tolerance and limit.
        seed: of the start.
        chunk: images in one pass.

    Returns:
        Values, residuals and iterations, each (n,).
    """
    directions = _normal_like(images, seed)
    parts = [
        _power_iteration(never_alone(function), x, v, settings)
        for x, v in zip(images.split(chunk), directions.split(chunk), strict=True)
    ]
    values, residuals, iterations = (torch.cat(part) for part in zip(*parts, strict=True))
    return Slopes(values, residuals, iterations)


def _power_iteration(
    function: Callable[[Tensor], Tensor], images: Tensor, start: Tensor, settings: PowerIteration
) -> tuple[Tensor, Tensor, Tensor]:
    direction = start / _norms(start)
    squares, residuals = images.new_zeros(len(images)), images.new_full((len(images),), torch.inf)
    iterations = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    active = torch.arange(len(images), device=images.device)
    while len(active):
        here = images[active]
        _, pull = vjp(function, here)
        v = direction[active]
        for _ in range(ROUND):
            pushed = jvp(function, (here,), (v,))[1]
            pulled = pull(pushed)[0]
            square = pushed.square().sum(1)  # the Rayleigh quotient λ of the unit vector v
            rest = _norms(pulled - square.view(-1, 1, 1, 1) * v).flatten()
            # J = 0 ends it: no direction, slope 0, residual 0.
            residual = torch.where(square > 0, rest / square, 0)
            v = pulled / _norms(pulled).clamp_min(torch.finfo(pulled.dtype).tiny)
        direction[active], squares[active], residuals[active] = v, square, residual
        iterations[active] += ROUND
        # Not finite counts as done: more steps would not help.
        undone = (residual > settings.tolerance) & (iterations[active] < settings.limit)
        active = active[undone]
    ended = residuals <= settings.tolerance
    return torch.where(ended, squares.sqrt(), torch.nan), residuals, iterations


def adam_slopes(
    function: Callable[[Tensor], Tensor],
    images: Tensor,
    settings: Adam,
    *,
    seed: int,
    chunk: int,
) -> Tensor:
    """Computes the released estimate of MLS: how far outputs move per finite step, maximised.

    Adam maximises ||g(x + δ) − g(x)|| / ||δ|| from δ ~ start · N(0, 1); as released, the value is
    the one before the last update. It is a slope over a finite step, so it can lie on either side
    of ||J||_2.

    Args:
        function: images (n, C, H, W) to outputs (n, N), each image by itself.
        images: (n, C, H, W).
        settings: steps, learning rate and start.
        seed: of the start.
        chunk: images in one pass.

    Returns:
        (n,), the ratio reached at each image.
    """
    starts = settings.start * _normal_like(images, seed)
    return torch.cat(
        [
            _adam_ascent(never_alone(function), x, delta, settings)
            for x, delta in zip(images.split(chunk), starts.split(chunk), strict=True)
        ]
    )


def _adam_ascent(
    function: Callable[[Tensor], Tensor], images: Tensor, start: Tensor, settings: Adam
) -> Tensor:
    with torch.no_grad():
        clean = function(images)
    delta = start.clone().requires_grad_()
    # Adam works element by element, so the images of a batch stay independent.
    adam = torch.optim.Adam([delta], lr=settings.learning_rate)
    for _ in range(settings.steps):
        change = (function(images + delta) - clean).norm(dim=1)
        ratio = change / delta.flatten(1).norm(dim=1)
        adam.zero_grad()
        (-ratio.sum()).backward()
        adam.step()
    return ratio.detach()


def _norms(images: Tensor) -> Tensor:
    """Norm of each image, (n, 1, 1, 1)."""
    return images.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def _normal_like(images: Tensor, seed: int) -> Tensor:
    generator = torch.Generator(images.device).manual_seed(seed)
    return torch.randn(images.shape, generator=generator, dtype=images.dtype, device=images.device)
