"""Requirements of the public calls on a model and its data.

`measure`, `hessian_trace`, `top_eigenvalue` and both adaptive sharpnesses use these checks, so all
of them refuse the same input.
"""

from itertools import chain
from math import isfinite
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from flatness.errors import NumericalError, UserError

#: The types in which numbers are measured.
TYPES = (torch.float32, torch.float64)


def first_line(error: Exception) -> str:
    """The kind of an error, and the first line of its message."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def require_positive(**settings: float) -> None:
    """Raises a UserError naming the setting that is not a positive, finite number."""
    for name, value in settings.items():
        if not isinstance(value, Real) or not (value > 0 and isfinite(value)):
            raise UserError(f"{name} is {value}; it must be a positive number")


def require_counts(least: int = 1, **settings: int) -> None:
    """Raises a UserError naming the setting that is not a whole number, or below the least."""
    for name, value in settings.items():
        if not isinstance(value, Integral) or value < least:
            raise UserError(f"{name} is {value}; it must be a whole number, at least {least}")


def check_parameters(model: nn.Module) -> None:
    """Refuses parameters of which nothing can be measured.

    Args:
        model: any module.

    Raises:
        UserError: a parameter is not initialised, has an unsupported type, or has another type
            than the first.
        NumericalError: a parameter is not finite.
    """
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor) or tensor.is_meta:
            raise UserError(f"{name} of the model has no values yet; initialise the model first")
    kind = None
    for name, parameter in model.named_parameters():
        kind = kind or parameter.dtype
        if parameter.dtype not in TYPES or parameter.dtype != kind:
            raise UserError(
                f"parameter {name} is {parameter.dtype}; make all parameters float32 or float64, "
                "such as by model.float()"
            )
        if parameter.numel() and not _is_finite(parameter):
            raise NumericalError(f"parameter {name} is not finite; the training diverged")


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite; uses minimum and maximum, since isfinite() makes a copy."""
    return all(bool(torch.isfinite(end)) for end in tensor.detach().aminmax())


def check_inputs(model: nn.Module, inputs: Any) -> Tensor:
    """Refuses inputs on which the model cannot be measured.

    Args:
        model: any module.
        inputs: samples, (n, ...).

    Returns:
        The inputs, detached.

    Raises:
        UserError: they are no samples, or not of the parameters' type or on their device.
        NumericalError: they are not finite.
    """
    _require_samples("inputs", inputs, model)
    if inputs.dim() < 2:
        raise UserError(f"inputs: shape {tuple(inputs.shape)}; needs samples along the first axis")
    _require_type("inputs", inputs, model)
    # a tensor made in inference mode has no gradient, its copy has
    return inputs.clone() if inputs.is_inference() else inputs.detach()


def check_targets(model: nn.Module, targets: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Refuses targets for which the squared loss is not defined.

    Args:
        model: any module.
        targets: one row per sample.
        shape: of the outputs, (n, ...).

    Returns:
        The targets in the outputs' shape: a column (n, 1) for outputs (n,), and the reverse.

    Raises:
        UserError: they have another shape, type or device.
        NumericalError: they are not finite.
    """
    _require_samples("targets", targets, model)
    if _without_column(targets.shape) != _without_column(shape):
        raise UserError(
            f"targets: shape {tuple(targets.shape)}, the outputs' is {shape}; pass class labels as "
            "one-hot rows"
        )
    _require_type("targets", targets, model)
    return targets.clone().reshape(shape) if targets.is_inference() else targets.reshape(shape)


def _without_column(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape, (n,) for (n, 1)."""
    return tuple(shape[:1] if shape[1:] == (1,) else shape)


def check_data(model: nn.Module, data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Refuses samples on which no loss of the model is defined.

    Args:
        model: any module.
        data: inputs (n, ...), which may be whole numbers such as tokens, and targets (n, ...).

    Returns:
        The two.

    Raises:
        UserError: they are not two tensors of n samples on the parameters' device; or are
            floating-point numbers, but not float32 or float64.
        NumericalError: they are not finite.
    """
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise UserError(f"data is a {type(data).__name__}; pass two tensors (inputs, targets)")
    for name, tensor in zip(("inputs", "targets"), data, strict=True):
        _require_samples(name, tensor, model)
    inputs, targets = data
    if len(inputs) != len(targets):
        raise UserError(f"data: {len(inputs)} inputs but {len(targets)} targets")
    for name, tensor in (("inputs", inputs), ("targets", targets)):
        real = tensor.is_floating_point() or tensor.is_complex()
        if real and tensor.dtype not in TYPES:
            raise UserError(f"{name} are {tensor.dtype}; make them float32 or float64")
    return _usable(inputs), _usable(targets)


def _usable(tensor: Tensor) -> Tensor:
    """The same numbers without a graph, where gradients can be taken."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def _require_samples(name: str, tensor: Any, model: nn.Module) -> None:
    """Raises an error unless it is a plain tensor of finite samples on the model's device."""
    if not isinstance(tensor, Tensor):
        raise UserError(f"{name} are a {type(tensor).__name__}; pass a torch.Tensor")
    if tensor.is_nested or tensor.layout != torch.strided or tensor.is_meta:
        raise UserError(f"{name} are not a dense tensor with values; make them one")
    if tensor.dim() == 0 or tensor.numel() == 0:
        raise UserError(f"{name}: shape {tuple(tensor.shape)}; needs samples along the first axis")
    if tensor.is_floating_point() and not _is_finite(tensor):
        raise NumericalError(f"{name} are not finite; look for nan or inf in the data")
    devices = {p.device for p in model.parameters()}
    if len(devices) == 1 and tensor.device not in devices:
        raise UserError(
            f"{name} are on {tensor.device}, the parameters on {devices.pop()}; move one of them"
        )


def _require_type(name: str, tensor: Tensor, model: nn.Module) -> None:
    kind = next((p.dtype for p in model.parameters()), tensor.dtype)
    if tensor.dtype != kind or kind not in TYPES:
        raise UserError(
            f"{name} are {tensor.dtype}, the parameters {kind}; make both float32 or float64, such "
            f"as by {name}.float()"
        )


def at_least_two(inputs: Tensor) -> Tensor:
    """The samples; a lone one twice, since squeeze() drops the dimension of a batch of one."""
    return inputs if len(inputs) > 1 else torch.cat([inputs, inputs])
