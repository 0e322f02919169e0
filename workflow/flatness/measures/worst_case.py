"""Worst-case sharpness: how far the loss rises in a box around the weights w.

    S_max^ρ(w) = E_S max_{|δ_p| ≤ ρ|w_p|} L_S(w + δ) − L_S(w)          (adaptive; else |δ_p| ≤ ρ)

S is a batch of m samples drawn with replacement. *Plain* projected gradient ascent keeps the
highest loss after its updates, so its value may be negative. *Strong* ascent moves in units of ρ|w|
and keeps the best point found. Like the maximum itself, its value is unchanged by rescalings
w → w⊙r that leave the network's function unchanged.

The ascents are in `flatness.measures.ascent`; here they are applied to one module.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from flatness.errors import NumericalError, UserError
from flatness.measures._checks import (
    check_data,
    require_counts,
    require_positive,
)
from flatness.measures._repeatable import refuse_batch_statistics, require_repeatable
from flatness.measures.ascent import (
    STRONG_CORNERS,
    STRONG_STEPS,
    Maximiser,
    Parameters,
    draw_batches,
    loss_rises,
    plain_rise,
    strong_rise,
)
from flatness.measures.functional import functional_call
from flatness.measures.measuring import measuring
from flatness.measures.workarounds import mended, never_alone


@dataclass(frozen=True)
class WorstCaseSharpness:
    """Worst-case sharpness of one model.

    Attributes:
        value: mean over restarts of the highest loss reached minus the loss at the centre.
        standard_error: of `value`, over restarts; NaN for one restart.
        clamped: the same mean with δ = 0 as a candidate: never negative.
        restarts: number of batches in the mean.
        flags: remarks that a reader of the numbers needs, one sentence each.
    """

    value: float
    standard_error: float
    clamped: float
    restarts: int
    flags: tuple[str, ...] = ()


def plain_worst_case_sharpness(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    data: tuple[Shaped[Tensor, "n ..."], Shaped[Tensor, "n ..."]],
    *,
    rho: float,
    step_size: float,
    steps: int = 5,
    restarts: int = 50,
    batch_size: int = 64,
    seed: int = 0,
) -> WorstCaseSharpness:
    """Adaptive worst-case sharpness by plain projected gradient ascent.

    Per restart: draw a batch, take `steps` steps δ ← clamp(δ + step_size ∇L, −ρ|w|, ρ|w|) from
    δ = 0, keep the highest loss after an update. The model is measured in evaluation mode, with
    frozen batch norm. Its parameters, buffers and modes and the global random generators are left
    as they were.

    Args:
        model: maps inputs (b, ...) to outputs; all its parameters are perturbed.
        loss: maps outputs and targets of a batch to its mean loss, one number.
        data: inputs (n, ...) and targets (n, ...), on the model's device; floating-point inputs of
            the parameters' type.
        rho: radius, relative to each weight.
        step_size: of the ascent, in units of the weights per unit of gradient.
        steps: updates per restart.
        restarts: independent batches.
        batch_size: samples per batch, drawn with replacement (duplicates count).
        seed: of the batches.

    Returns:
        The sharpness, in units of the loss.

    Raises:
        UserError: a setting is out of range, the data are not samples, the loss is not one number
            with a gradient, or the model is random or fails.
        NumericalError: a parameter, the data or the sharpness is not finite.
    """
    with measuring(model):
        require_positive(rho=rho, step_size=step_size)
        require_counts(steps=steps)
        maximise = partial(plain_rise, rho=rho, step_size=step_size, steps=steps)
        generator = torch.Generator().manual_seed(seed)
        return _of_module(model, loss, data, maximise, restarts, batch_size, generator)


def strong_worst_case_sharpness(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    data: tuple[Shaped[Tensor, "n ..."], Shaped[Tensor, "n ..."]],
    *,
    rho: float,
    steps: int = STRONG_STEPS,
    corners: int = STRONG_CORNERS,
    restarts: int = 50,
    batch_size: int = 64,
    seed: int = 0,
    adaptive: bool = True,
) -> WorstCaseSharpness:
    """Adaptive worst-case sharpness by sign ascent from δ = 0 and from random corners.

    Like `plain_worst_case_sharpness`, with the same batches for the same seed, but with
    `strong_rise` as the maximiser. It has no parameter to tune, is never negative, and is unchanged
    by rescaling.

    Args:
        model: as in `plain_worst_case_sharpness`.
        loss: likewise.
        data: likewise.
        rho: likewise.
        steps: updates from each start.
        corners: random corners of the box |δ| ≤ ρ|w| to start from, besides δ = 0.
        restarts: independent batches.
        batch_size: samples per batch, drawn with replacement.
        seed: of the batches and corners.
        adaptive: whether the box is |δ| ≤ ρ|w|, else |δ| ≤ ρ.

    Returns:
        The sharpness, in units of the loss.

    Raises:
        UserError: as `plain_worst_case_sharpness`.
        NumericalError: as `plain_worst_case_sharpness`.
    """
    with measuring(model):
        require_positive(rho=rho)
        require_counts(steps=steps)
        require_counts(0, corners=corners)
        generator = torch.Generator().manual_seed(seed)
        maximise = partial(
            strong_rise,
            rho=rho,
            steps=steps,
            corners=corners,
            generators=[generator],
            adaptive=adaptive,
        )
        return _of_module(model, loss, data, maximise, restarts, batch_size, generator)


def summarise(rises: Float[Tensor, " restarts"]) -> WorstCaseSharpness:
    """The mean of one model's loss rises, shape (restarts,), and its standard error."""
    rises = rises.double()
    count = len(rises)
    error = float(rises.std() / count**0.5) if count > 1 else float("nan")
    return WorstCaseSharpness(float(rises.mean()), error, float(rises.clamp(min=0).mean()), count)


def _of_module(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    data: tuple[Tensor, Tensor],
    maximise: Maximiser,
    restarts: int,
    batch_size: int,
    generator: torch.Generator,
) -> WorstCaseSharpness:
    """Measures one module as a stack of size one."""
    require_counts(restarts=restarts, batch_size=batch_size)
    data = check_data(model, data)
    batches = draw_batches(len(data[0]), restarts, batch_size, [generator]).to(data[0].device)
    centre = {name: weights.detach()[None] for name, weights in model.named_parameters()}
    losses = module_losses(model, loss, data)
    model.eval()
    refuse_batch_statistics(model)
    require_repeatable(model, lambda: losses(centre, batches[:, 0]))
    result = summarise(loss_rises(losses, centre, batches, maximise)[0])
    if not torch.isfinite(torch.tensor(result.value)):
        raise NumericalError(
            f"the adaptive sharpness is {result.value}: the loss is not finite near the weights; "
            "check that training did not diverge"
        )
    return result


def module_losses(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], data: tuple[Tensor, Tensor]
) -> Callable[[Parameters, Tensor], Tensor]:
    """The loss of one module as a function of a stack of one and a batch of indices (1, b).

    Args:
        model: the module.
        loss: maps outputs and targets of a batch to one number.
        data: inputs and targets.

    Returns:
        The function; its losses have the shape (1,). It raises a UserError where the loss is not
        one number, or has no gradient by the parameters.
    """
    inputs, targets = data

    def losses(parameters: Parameters, batch: Tensor) -> Tensor:
        single = {name: values[0] for name, values in parameters.items()}
        outputs = never_alone(lambda x: functional_call(model, single, (x,)))
        with mended():
            value = loss(outputs(inputs[batch[0]]), targets[batch[0]])
        _check_loss(value)
        return value.reshape(1)

    return losses


def _check_loss(value: Tensor) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise UserError(
            f"the loss of a batch is not a real number but {found}; take its mean, such as by "
            "reduction='mean'"
        )
    if torch.is_grad_enabled() and not value.requires_grad:
        raise UserError(
            "the loss has no gradient by any parameter; look for torch.no_grad, detach or argmax"
        )
