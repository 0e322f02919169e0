"""Worst-case sharpness in boxes and balls, as Andriushchenko et al. (2023) define it.

    S_max^ρ(w) = E_S max_{‖δ ⊘ h‖_p ≤ ρ} L_S(w + δ) − L_S(w)        h = |w| (adaptive) or 1

S is a batch of m samples drawn with replacement, p is ∞ or 2. The value is a lower bound on the
maximum, found by the ascents of `balls`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from flatness.errors import NumericalError, UserError
from flatness.measures._checks import (
    at_least_two,
    check_data,
    require_counts,
    require_positive,
)
from flatness.measures._intake import joined_pairs
from flatness.measures._progress import bar
from flatness.measures._repeatable import FEW, refuse_batch_statistics, require_repeatable
from flatness.measures.ascent import draw_batches
from flatness.measures.balls import ASCENTS, CORNERS, STEPS, Ball, Norm, Slope, highest
from flatness.measures.losses import Loss, LossFunction, named_loss, require_mean
from flatness.measures.measuring import measuring
from flatness.measures.worst_case import WorstCaseSharpness, module_losses, summarise

Ascent = Literal["decaying", "apgd"]


class Weights:
    """A model's loss as a function of u, where the weights are w + h ⊙ u.

    Args:
        model: the network.
        loss: maps outputs and targets to one number.
        data: inputs and targets.
        adaptive: whether h is |w|, or 1.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        data: tuple[Tensor, Tensor],
        *,
        adaptive: bool,
    ) -> None:
        self._losses = module_losses(model, loss, data)
        self._shapes = {name: p.shape for name, p in model.named_parameters()}
        self.centre = torch.cat([p.detach().flatten() for p in model.parameters()])
        self._half = self.centre.abs() if adaptive else torch.ones_like(self.centre)

    def loss_at(self, u: Float[Tensor, " D"], batch: Tensor) -> Float[Tensor, ""]:
        """The loss on a batch of indices (m,)."""
        parts = (self.centre + self._half * u).split([s.numel() for s in self._shapes.values()])
        named = {n: p.reshape(1, *s) for (n, s), p in zip(self._shapes.items(), parts, strict=True)}
        return self._losses(named, batch[None])[0]

    def slope(self, batch: Tensor) -> Slope:
        """The loss on a batch, and its gradient, as functions of u."""

        def slope(u: Tensor) -> tuple[Tensor, Tensor]:
            leaf = u.detach().requires_grad_()
            value = self.loss_at(leaf, batch)
            return value.detach(), torch.autograd.grad(value, leaf)[0]

        return slope


@overload
def worst_case_sharpness(
    model: nn.Module,
    inputs: Shaped[Tensor, "n ..."] | Iterable[Any],
    targets: Shaped[Tensor, "n ..."] | None = None,
    *,
    loss: str | LossFunction,
    rho: float,
    norm: Norm = ...,
    adaptive: bool = ...,
    normalize_logits: bool = ...,
    ascent: Ascent = ...,
    steps: int = ...,
    corners: int = ...,
    restarts: int = ...,
    batch_size: int = ...,
    seed: int = ...,
) -> WorstCaseSharpness: ...
@overload
def worst_case_sharpness(
    model: nn.Module,
    inputs: Shaped[Tensor, "n ..."] | Iterable[Any],
    targets: Shaped[Tensor, "n ..."] | None = None,
    *,
    loss: str | LossFunction,
    rho: Sequence[float],
    norm: Norm = ...,
    adaptive: bool = ...,
    normalize_logits: bool = ...,
    ascent: Ascent = ...,
    steps: int = ...,
    corners: int = ...,
    restarts: int = ...,
    batch_size: int = ...,
    seed: int = ...,
) -> tuple[WorstCaseSharpness, ...]: ...
def worst_case_sharpness(
    model: nn.Module,
    inputs: Shaped[Tensor, "n ..."] | Iterable[Any],
    targets: Shaped[Tensor, "n ..."] | None = None,
    *,
    loss: str | LossFunction,
    rho: float | Sequence[float],
    norm: Norm = "linf",
    adaptive: bool = True,
    normalize_logits: bool = False,
    ascent: Ascent = "apgd",
    steps: int = STEPS,
    corners: int = CORNERS,
    restarts: int = 50,
    batch_size: int = 64,
    seed: int = 0,
) -> WorstCaseSharpness | tuple[WorstCaseSharpness, ...]:
    """How far the loss can rise near the weights, on average over batches.

    The value is a lower bound on the maximum, never negative, and never smaller for a larger ρ of a
    sweep. The adaptive value is unchanged by rescalings of the weights that leave the network's
    function unchanged. The model is measured in evaluation mode and left as it was; frozen
    parameters are perturbed, too. All starts climb for 22 % of the steps, the highest then climbs
    on: the cost is about restarts × (1 + 0.22 corners) × steps gradients of batch_size samples.

    Args:
        model: maps inputs (b, ...) to outputs; all its parameters are perturbed.
        inputs: (n, ...), on the model's device, with targets; or batches of pairs of both.
        targets: (n, ...); None with batches.
        loss: a name or a function, the mean over the samples of a batch, as in `hessian`.
        rho: ρ, relative to each weight if adaptive, else in their unit; several for a sweep on the
            same batches.
        norm: "linf" for the box |δ_p| ≤ ρh_p, "l2" for the ball ‖δ ⊘ h‖₂ ≤ ρ.
        adaptive: whether h is |w|, else 1.
        normalize_logits: whether outputs (b, K) are first divided by their standard deviation over
            the K classes, so that scaling them makes no difference.
        ascent: "apgd" for Auto-PGD, or "decaying", of `balls`.
        steps: of the start that climbs on.
        corners: random points of the boundary to start from, besides δ = 0.
        restarts: independent batches.
        batch_size: m, samples per batch, drawn with replacement.
        seed: of the batches and corners.

    Returns:
        The sharpness, in units of the loss; for several ρ a tuple in their order.

    Raises:
        UserError: a setting is out of range, or the same batch gives two losses.
        NumericalError: the sharpness is not finite.
    """
    radii: list[float] = [*rho] if isinstance(rho, Sequence) else [rho]
    with measuring(model):
        _check_settings(radii, norm, ascent)
        require_counts(steps=steps, restarts=restarts, batch_size=batch_size)
        require_counts(0, corners=corners)
        function = named_loss(loss).function
        data = check_data(model, joined_pairs(inputs, targets))
        model.eval()
        refuse_batch_statistics(model)
        _require_mean(model, function, data)
        chosen = normalized(function) if normalize_logits else function
        weights = Weights(model, chosen, data, adaptive=adaptive)
        generator = torch.Generator().manual_seed(seed)
        batches = draw_batches(len(data[0]), restarts, batch_size, [generator])[0]
        zero = torch.zeros_like(weights.centre)
        require_repeatable(model, lambda: weights.loss_at(zero, batches[0]).reshape(1))
        how = {"ascent": ascent, "steps": steps, "corners": corners, "generator": generator}
        found = []
        with bar(restarts, "worst-case sharpness") as progress:
            for batch in batches.to(data[0].device):
                found.append(_sweep(weights.slope(batch), zero, radii, norm, how))
                progress.update()
        starts, rises = (torch.stack(values) for values in zip(*found, strict=True))
        if not torch.isfinite(rises).all():
            raise NumericalError(
                "the sharpness is not finite: the loss is not finite near the weights; check that "
                "training did not diverge"
            )
    flags = [_flags(starts, column, weights.centre.dtype) for column in rises.T]
    results = tuple(
        replace(summarise(column), flags=flag) for column, flag in zip(rises.T, flags, strict=True)
    )
    return results if isinstance(rho, Sequence) else results[0]


def _require_mean(model: nn.Module, loss: LossFunction, data: tuple[Tensor, Tensor]) -> None:
    inputs, targets = (at_least_two(part[:FEW]) for part in data)
    with torch.no_grad():
        outputs = model(inputs.clone())
    if not isinstance(outputs, Tensor):
        raise UserError(
            f"the model returns a {type(outputs).__name__}; wrap it so that it returns the tensor "
            "that the loss takes"
        )
    require_mean(Loss(loss, ""), outputs, targets)


def _flags(starts: Tensor, rises: Tensor, kind: torch.dtype) -> tuple[str, ...]:
    """A flag if rises are no larger than the rounding of the loss."""
    rounding = torch.finfo(kind).eps * starts.abs().mean()
    if rises.mean() > 10 * rounding:
        return ()
    return (f"the rise is no larger than rounding of the loss in {kind}; measure in float64",)


def _check_settings(radii: list[float], norm: str, ascent: str) -> None:
    if not radii:
        raise UserError("rho is empty; pass one number or several")
    for value in radii:
        require_positive(rho=value)
    if norm not in {"linf", "l2"}:
        raise UserError(f"norm is {norm!r}; it is 'linf' or 'l2'")
    if ascent not in ASCENTS:
        raise UserError(f"ascent is {ascent!r}; it is one of {', '.join(ASCENTS)}")


def _sweep(
    slope: Slope, zero: Tensor, radii: list[float], norm: Norm, how: dict
) -> tuple[Tensor, Tensor]:
    """Loss and rises (radii,) on one batch; a larger ball contains the smaller ones."""
    start = slope(zero)[0]
    rises, best = torch.zeros(len(radii), dtype=torch.float64), start
    for index in sorted(range(len(radii)), key=radii.__getitem__):
        found = highest(slope, Ball(norm, radii[index]), zero, **how)
        best = torch.maximum(best, found)
        rises[index] = best - start
    return start, rises


def normalized(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss of outputs that are divided by their standard deviation over classes.

    f̃ = f / sqrt(1/K Σ_k (f_k − mean f)²), as Andriushchenko et al. (2023) write it. Their code
    divides by a further sqrt(K) and subtracts the mean, which does not change cross-entropy.

    Args:
        loss: of outputs (b, K) and targets.

    Returns:
        The loss of unscaled outputs. It raises a UserError for outputs without classes.
    """

    def of_normalized(outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.dim() < 2 or outputs.shape[-1] < 2:
            raise UserError(
                f"outputs of shape {tuple(outputs.shape)} have no classes to normalize over; leave "
                "normalize_logits off"
            )
        spread = outputs.std(-1, correction=0, keepdim=True)
        return loss(outputs / spread.clamp(min=1e-10), targets)

    return of_normalized
