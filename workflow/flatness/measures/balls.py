"""Maximising a loss over weights in a box or a ball around the present ones.

    max L(w + h ⊙ u) over ‖u‖_p ≤ ρ        h = |w| (adaptive) or 1;  p = ∞ or 2

Ascents move u; in u both sets are plain balls. No ascent needs a step size, and for h = |w| the
result is unchanged by rescalings of the weights that leave the network's function unchanged.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from math import ceil
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Norm = Literal["linf", "l2"]
#: Maps u to the loss there and its gradient by u.
Slope = Callable[[Tensor], tuple[Tensor, Tensor]]
#: The highest loss seen so far, at each point of an ascent.
Climb = Iterator[Float[Tensor, ""]]
#: Share of the steps after which an ascent may first change its own.
FIRST_CHECKPOINT = 0.22
#: Steps of the start that climbs on, and random starts besides the centre.
STEPS, CORNERS = 20, 2


@dataclass(frozen=True)
class Ball:
    """‖u‖ ≤ ρ.

    Attributes:
        norm: "linf" or "l2".
        rho: ρ.
    """

    norm: Norm
    rho: float

    def project(self, u: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
        """The nearest point of the ball."""
        if self.norm == "linf":
            return u.clamp(-self.rho, self.rho)
        return u * (self.rho / u.norm().clamp(min=self.rho))

    def steepest(self, gradient: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
        """The direction of norm 1 in which a loss rises fastest; zero where it is flat."""
        if self.norm == "linf":
            return gradient.sign()
        return gradient / gradient.norm().clamp(min=torch.finfo(gradient.dtype).tiny)

    def boundary(
        self, like: Float[Tensor, " D"], generator: torch.Generator
    ) -> Float[Tensor, " D"]:
        """A random corner of the box, or a random point of the sphere."""
        if self.norm == "linf":
            signs = torch.randint(2, like.shape, generator=generator) * 2 - 1
            return self.rho * signs.to(like)
        normal = torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
        return self.rho * normal / normal.norm()


def decaying_ascent(slope: Slope, ball: Ball, start: Float[Tensor, " D"], steps: int) -> Climb:
    """Projected ascent with steps that shrink from 2ρ to 2ρ/steps.

    Args:
        slope: the loss and its gradient.
        ball: the set.
        start: in it.
        steps: moves made.

    Yields:
        The highest loss seen, at the start and after each step.
    """
    u = start
    best, gradient = slope(u)
    yield best
    for step in range(steps):
        size = 2 * ball.rho * (1 - step / steps)
        u = ball.project(u + size * ball.steepest(gradient))
        value, gradient = slope(u)
        best = torch.maximum(best, value)
        yield best


def auto_ascent(slope: Slope, ball: Ball, start: Float[Tensor, " D"], steps: int) -> Climb:
    """Auto-PGD (Croce and Hein, 2020, algorithm 1).

    Steps begin at 2ρ with momentum ¾. At checkpoints with shrinking distances the step is halved
    and the ascent returns to its best point, if fewer than ¾ of the steps since the last checkpoint
    raised the loss, or if neither step nor best loss has changed since.

    Args:
        slope: the loss and its gradient.
        ball: the set.
        start: in it.
        steps: moves made.

    Yields:
        The highest loss seen, at the start and after each step.
    """
    checkpoints = _checkpoints(steps)
    u, before, size = start, start, 2 * ball.rho
    value, gradient = slope(u)
    best, best_u, best_gradient = value, u, gradient
    raised, last_checkpoint, last_size, last_best = 0, 0, size, best
    yield best
    for step in range(1, steps + 1):
        ahead = ball.project(u + size * ball.steepest(gradient))
        momentum = 1.0 if step == 1 else 0.75
        moved = ball.project(u + momentum * (ahead - u) + (1 - momentum) * (u - before))
        before, u, old = u, moved, value
        value, gradient = slope(u)
        raised += int(value > old)
        if value > best:
            best, best_u, best_gradient = value, u, gradient
        if step in checkpoints:
            few = raised < 0.75 * (step - last_checkpoint)
            stuck = size == last_size and bool(best == last_best)
            raised, last_checkpoint, last_size, last_best = 0, step, size, best
            if few or stuck:
                size /= 2
                u, before, gradient, value = best_u, best_u, best_gradient, best
        yield best


def _checkpoints(steps: int) -> set[int]:
    """⌈p_j·steps⌉ with p_0 = 0, p_1 = 0.22 and p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06)."""
    shares = [0.0, FIRST_CHECKPOINT]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return {ceil(round(share * steps, 6)) for share in shares[1:]}  # 57 of 100, not 57.0…01


ASCENTS = {"decaying": decaying_ascent, "apgd": auto_ascent}


def highest(
    slope: Slope,
    ball: Ball,
    like: Float[Tensor, " D"],
    *,
    ascent: Literal["decaying", "apgd"],
    steps: int,
    corners: int,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """The highest loss seen from the centre and from random points of the boundary.

    All starts climb to the first checkpoint; only the highest climbs on.

    Args:
        slope: the loss and its gradient.
        ball: the set.
        like: a tensor of the shape and type of u.
        ascent: which of `ASCENTS`.
        steps: moves of the start that climbs on.
        corners: random starts besides the centre.
        generator: draws the starts.

    Returns:
        The loss.
    """
    starts = [torch.zeros_like(like)]
    starts += [ball.boundary(like, generator) for _ in range(corners)]
    climbs = [ASCENTS[ascent](slope, ball, start, steps) for start in starts]
    reached = [top(islice(climb, 1 + first_checkpoint(steps))) for climb in climbs]
    leader = int(torch.stack(reached).argmax())
    return top(chain([reached[leader]], climbs[leader]))


def first_checkpoint(steps: int) -> int:
    """Steps that all starts take."""
    return ceil(FIRST_CHECKPOINT * steps)


def top(climb: Climb) -> Float[Tensor, ""]:
    """The highest loss that an ascent sees."""
    return deque(climb, maxlen=1).pop()
