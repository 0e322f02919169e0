"""Maximising a loss in the box |δ| ≤ ρ|w|, or |δ| ≤ ρ, for a stack of models at once.

Parameters carry a leading dimension M, and a loss function maps them to the M models' losses, so
that one implementation serves a single module (a stack of one) and pools of small networks.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from flatness.errors import NumericalError

#: Maps a parameter name to its values in all models of a stack, (M, ...).
Parameters = dict[str, Tensor]
#: Maps parameters to the loss of each model, (M,).
Losses = Callable[[Parameters], Tensor]
#: Maps losses on one batch and the centre w to max_δ L(w+δ) − L(w) of each model, (M,).
Maximiser = Callable[[Losses, Parameters], Tensor]

#: Steps and random corners of the strong ascent.
STRONG_STEPS = 10
STRONG_CORNERS = 2


def draw_batches(
    samples: int, restarts: int, batch_size: int, generators: Sequence[torch.Generator]
) -> Int[Tensor, "M {restarts} {batch_size}"]:
    """Draws batches uniformly with replacement, each model from its own generator.

    Args:
        samples: how many there are to draw from.
        restarts: batches per model.
        batch_size: draws per batch.
        generators: one per model, M, so that its batches are the same in any stack.

    Returns:
        Indices (M, restarts, batch_size).
    """
    shape = restarts, batch_size
    return torch.stack([torch.randint(samples, shape, generator=one) for one in generators])


def loss_rises(
    losses: Callable[[Parameters, Tensor], Tensor],
    centre: Parameters,
    batches: Shaped[Tensor, "M restarts ..."],
    maximise: Maximiser,
) -> Float[Tensor, "M restarts"]:
    """Maximises the loss rise on every batch.

    Args:
        losses: parameters (M, ...) and a batch (M, ...) to losses (M,).
        centre: trained weights w.
        batches: (M, restarts, ...), one batch per model and restart.
        maximise: finds max_δ L(w+δ) − L(w) on one batch.

    Returns:
        (M, restarts).
    """
    columns = []
    for batch in batches.unbind(1):
        columns.append(maximise(lambda parameters, batch=batch: losses(parameters, batch), centre))
    return torch.stack(columns, dim=1)


def plain_rise(
    losses: Losses, centre: Parameters, *, rho: float, step_size: float, steps: int
) -> Float[Tensor, " M"]:
    """Highest loss after updates 1 to `steps` of projected ascent, less the loss at the centre."""
    path = ascent_path(
        losses, centre, box(centre, rho), lambda _, gradient, __: step_size * gradient, steps
    )
    return path[1:].amax(0) - path[0]


def strong_rise(
    losses: Losses,
    centre: Parameters,
    *,
    rho: float,
    steps: int = STRONG_STEPS,
    corners: int = STRONG_CORNERS,
    generators: Sequence[torch.Generator],
    adaptive: bool = True,
) -> Float[Tensor, " M"]:
    """Highest loss ever seen by sign ascent, less the loss at the centre.

    From δ = 0 and from random corners of the box, step t of T moves by 2 (1 − t/T) h sign(∇L), with
    h the half width. From anywhere in the box, the first step reaches the corner to which the
    gradient points.

    Args:
        losses: parameters (M, ...) to losses (M,).
        centre: trained weights.
        rho: radius.
        steps: updates from each start.
        corners: random corners to start from.
        generators: one per model; they draw the corners.
        adaptive: whether h is ρ|w|, else ρ.

    Returns:
        (M,), never negative.
    """
    half_width = box(centre, rho, adaptive=adaptive)

    def move(step: int, gradient: Tensor, half: Tensor) -> Tensor:
        return 2 * (1 - step / steps) * half * gradient.sign()

    path = ascent_path(losses, centre, half_width, move, steps)
    highest = path.amax(0)
    for _ in range(corners):
        start = _random_corner(half_width, generators)
        other = ascent_path(losses, centre, half_width, move, steps, start=start)
        highest = torch.maximum(highest, other.amax(0))
    return highest - path[0]


def box(centre: Parameters, rho: float, *, adaptive: bool = True) -> Parameters:
    """Half widths of the box that δ may move in: ρ|w|, or ρ if it is not adaptive."""
    if adaptive:
        return {name: rho * weights.abs() for name, weights in centre.items()}
    return {name: torch.full_like(weights, rho) for name, weights in centre.items()}


def ascent_path(
    losses: Losses,
    centre: Parameters,
    half_width: Parameters,
    move: Callable[[int, Tensor, Tensor], Tensor],
    steps: int,
    *,
    start: Parameters | None = None,
    score: Losses | None = None,
) -> Float[Tensor, "{steps}+1 M"]:
    """Losses along a projected ascent of δ itself, since w + δ rounded to float32 leaves the box.

    Args:
        losses: the losses that the ascent maximises.
        centre: weights w.
        half_width: δ is clamped to [−h, h] after each move and must satisfy |δ| ≤ |h|.
        move: maps step number (from 0), gradient and half width of one tensor to the change of δ.
        steps: moves to take.
        start: first δ; None is δ = 0.
        score: the losses to return along the path; None is `losses`.

    Returns:
        (steps + 1, M): losses at the start and after each move.

    Raises:
        NumericalError: δ left the box.
    """
    delta = start or {name: torch.zeros_like(weights) for name, weights in centre.items()}
    path = []
    for step in range(steps):
        here = {name: (centre[name] + delta[name]).requires_grad_() for name in centre}
        values = losses(here)
        gradients = torch.autograd.grad(
            values.sum(), list(here.values()), allow_unused=True, materialize_grads=True
        )
        with torch.no_grad():
            path.append(values.detach() if score is None else score(here))
            for (name, half), gradient in zip(half_width.items(), gradients, strict=True):
                moved = delta[name] + move(step, gradient, half)
                delta[name] = torch.clamp(moved, -half, half)
        require_inside(delta, half_width)
    with torch.no_grad():
        there = {name: centre[name] + delta[name] for name in centre}
        path.append((score or losses)(there))
    return torch.stack(path)


def require_inside(delta: Parameters, half_width: Parameters) -> None:
    """Raises a NumericalError naming the tensor where |δ| exceeds |half width|; NaN passes."""
    for name, half in half_width.items():
        if (delta[name].abs() > half.abs()).any():
            raise NumericalError(f"{name}: δ left its box; the projection is wrong")


def _random_corner(half_width: Parameters, generators: Sequence[torch.Generator]) -> Parameters:
    corner = {}
    for name, half in half_width.items():
        signs = [torch.randint(2, half.shape[1:], generator=one) * 2 - 1 for one in generators]
        corner[name] = half * torch.stack(signs).to(half)
    return corner
