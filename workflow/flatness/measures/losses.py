"""Losses by name, each with its convention, and whether a loss is a mean over samples."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from flatness.errors import UserError
from flatness.measures.quantities import LOSS

LossFunction = Callable[[Tensor, Tensor], Tensor]
#: Largest relative difference between a loss and the mean of its parts that counts as rounding.
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
    """½ mean over samples of ‖f(x) − y‖², summed over outputs; targets have the outputs' shape."""
    return mse(outputs, targets) * (outputs[0].numel() / 2)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean of (f(x) − y)² over samples and outputs; targets have the outputs' shape."""
    shapes = [t.shape[:1] if t.shape[1:] == (1,) else t.shape for t in (outputs, targets)]
    if shapes[0] != shapes[1]:  # PyTorch would broadcast one over the other
        raise UserError(
            f"targets: shape {tuple(targets.shape)}, the outputs' is {tuple(outputs.shape)}; pass "
            "class labels as one-hot rows, or use loss='cross_entropy'"
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
    """A loss by its name, or the caller's own loss.

    Args:
        loss: a name in `LOSSES`, or a function that maps outputs and targets to their mean loss.

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
    """Checks that a loss is a mean over samples.

    A sum or a weighted mean has another scale on each batch, so it has no Hessian over several.

    Args:
        loss: any loss.
        outputs: (n, ...), of a few samples. They are shrunk at random: a loss of zero would show
            nothing, and probabilities must stay probabilities.
        targets: (n, ...).

    Raises:
        UserError: the loss of all samples is not the mean of the losses of two parts.
    """
    if len(outputs) == 1:
        outputs, targets = outputs.repeat_interleave(3, 0), targets.repeat_interleave(3, 0)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(outputs.shape, generator=generator, dtype=outputs.dtype)
    outputs = outputs.detach() * noise.to(outputs.device)
    n, cut = len(outputs), (len(outputs) + 2) // 3
    whole = loss.function(outputs, targets)  # called first, so that an error shows these shapes
    parts = loss.function(outputs[:cut], targets[:cut]), loss.function(outputs[cut:], targets[cut:])
    if not isinstance(whole, Tensor) or whole.numel() != 1:
        raise UserError("the loss of a batch is not one number; take its mean over samples")
    by_parts = (cut * parts[0] + (n - cut) * parts[1]) / n
    scale = torch.stack([whole, *parts]).abs().max()
    if (whole - by_parts).abs() > ROUNDING[outputs.dtype] * scale:
        raise UserError(
            f"the loss is not a mean over samples: {float(whole):.4g} of {n}, {float(by_parts):.4g}"
            " as the mean of two parts; use reduction='mean' without class weights, or pass "
            "`evaluate`, which says what each batch's loss is a mean of"
        )
