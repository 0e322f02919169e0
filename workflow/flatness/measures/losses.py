"""Losses by name, each with its convention, and whether a loss is a mean over samples."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from flatness.errors import UserError
from flatness.measures.quantities import LOSS

LossFunction = Callable[[Tensor, Tensor], Tensor]
#: Largest relative difference of a loss from the mean of its parts that is put down to rounding.
ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-9}


@dataclass(frozen=True)
class Loss:
    """A loss of outputs and targets.

    Attributes:
        function: maps outputs (n, ...) and targets (n, ...) to one number, a mean over samples.
        convention: the loss as an equation: what is averaged, and what is summed over outputs.
    """

    function: LossFunction
    convention: str


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """½ mean over samples of ‖f(x) − y‖², summed over outputs; targets of the outputs' shape."""
    return mse(outputs, targets) * (outputs[0].numel() / 2)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean of (f(x) − y)² over samples and outputs; targets of the outputs' shape."""
    shapes = [t.shape[:1] if t.shape[1:] == (1,) else t.shape for t in (outputs, targets)]
    if shapes[0] != shapes[1]:  # PyTorch would spread one over the other
        raise UserError(
            f"targets: shape {tuple(targets.shape)}, the outputs' is {tuple(outputs.shape)}; pass "
            "class labels as one-hot rows, or take loss='cross_entropy'"
        )
    return functional.mse_loss(outputs, targets.reshape(outputs.shape).to(outputs.dtype))


#: Losses by name.
LOSSES = {
    "squared_error": Loss(squared_error, LOSS),
    "mse": Loss(mse, "L = 1/(nN) Σ ||f(x) − y||², all parameters: the mean over N outputs too"),
    "cross_entropy": Loss(
        functional.cross_entropy, "L = −1/n Σ log softmax(f(x))_y, all parameters"
    ),
}


def named_loss(loss: str | LossFunction) -> Loss:
    """A loss by its name, or one of the caller's.

    Args:
        loss: a name in `LOSSES`, or maps outputs and targets to their mean loss.

    Returns:
        The loss with its convention.

    Raises:
        UserError: no loss has this name.
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise UserError(f"loss: no {loss!r}; there are {', '.join(LOSSES)}, or pass a function")
        return LOSSES[loss]
    if not callable(loss) or isinstance(loss, type):
        what = f"class {loss.__name__}" if isinstance(loss, type) else type(loss).__name__
        raise UserError(f"loss is a {what}; pass a name, a function or an instance")
    name = getattr(loss, "__name__", type(loss).__name__)
    return Loss(loss, f"L = 1/n Σ {name}(f(x), y), all parameters: a mean over samples")


def require_mean(loss: Loss, outputs: Tensor, targets: Tensor) -> None:
    """Checks that a loss is the mean over samples of something.

    A sum, or a mean by weights, has another scale on each batch, and so no Hessian over several.

    Args:
        loss: any loss.
        outputs: (n, ...), of a few samples; they are shrunk at random, since a loss of zero shows
            nothing, and probabilities must stay such.
        targets: (n, ...).

    Raises:
        UserError: the loss of all is not the mean of the losses of two parts.
    """
    if len(outputs) == 1:
        outputs, targets = outputs.repeat_interleave(3, 0), targets.repeat_interleave(3, 0)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(outputs.shape, generator=generator, dtype=outputs.dtype)
    outputs = outputs.detach() * noise.to(outputs.device)
    n, cut = len(outputs), (len(outputs) + 2) // 3
    whole = loss.function(outputs, targets)  # first, so that an error tells its shapes
    parts = loss.function(outputs[:cut], targets[:cut]), loss.function(outputs[cut:], targets[cut:])
    if not isinstance(whole, Tensor) or whole.numel() != 1:
        raise UserError("the loss of a batch is not one number; take its mean over samples")
    by_parts = (cut * parts[0] + (n - cut) * parts[1]) / n
    scale = torch.stack([whole, *parts]).abs().max()
    if (whole - by_parts).abs() > ROUNDING[outputs.dtype] * scale:
        raise UserError(
            f"the loss is no mean over samples: {float(whole):.4g} of {n}, {float(by_parts):.4g} "
            "as the mean of two parts; use reduction='mean' without class weights, or pass "
            "`evaluate`, which says what each batch's loss is a mean of"
        )
