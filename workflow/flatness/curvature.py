"""The Hessian of the actual training loss: its trace, estimated, and its largest eigenvalue.

At an interpolating minimum S = Tr ∇²L; away from it the residuals' curvature makes the difference.
Loss convention: L = 1/(2n) Σ ||f(x_i) − y_i||², which is N/2 times PyTorch's MSELoss.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from curvlinops import HessianLinearOperator, xtrace
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

from flatness.errors import NumericalError, UserError
from flatness.estimates import Estimate
from flatness.jacobians import flat_outputs, refuse_training_mode, require_finite
from flatness.workarounds import mended

#: Samples in one backward pass.
CHUNK = 500
#: Largest |⟨u, Hv⟩ − ⟨v, Hu⟩| that is put down to rounding, relative to ‖u‖‖Hv‖ or ‖v‖‖Hu‖.
ASYMMETRY = {torch.float32: 1e-3, torch.float64: 1e-9}


@mended()
@torch.enable_grad()
def hessian_trace(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    estimates: int = 5,
    products: int = 30,
    seed: int = 0,
) -> Estimate:
    """Trace of the Hessian of the loss by XTrace (Epperly, Tropp and Webber, 2024).

    With 30 products its spread at interpolation was a third of Hutch++'s (MLP, LeNet-5, n = 20).

    Args:
        model: maps (n, ...) to (n, N) or (n,), in evaluation mode if that matters to it; its
            outputs depend on more than `products` parameters.
        inputs: (n, ...), of the parameters' floating-point type.
        targets: (n, N), also (n,) if the outputs are, of the same type; one-hot rows for classes.
        estimates: independent estimates, at least two.
        products: Hessian-vector products of each; an even number.
        seed: of the random vectors; the global generator is left as it was.

    Returns:
        Mean of the estimates; the standard error is from their spread, the samples held fixed.

    Raises:
        UserError: too few estimates, a wrong number of products, inputs or targets of another
            shape or type, or a model that cannot be measured rightly.
        NumericalError: a parameter, an input or a target is not finite; or the Hessian's rank is
            below half the products.
    """
    with _seeded(seed, inputs):
        operator, outputs = _hessian(model, inputs, targets)
        if estimates < 2 or products % 2 or not 0 < products < operator.shape[0]:
            raise UserError(
                f"the trace needs at least 2 estimates (got {estimates}) and an even number of "
                f"products (got {products}), fewer than the {operator.shape[0]} parameters in use"
            )
        try:
            traces = [xtrace(operator, products).double() for _ in range(estimates)]
        except torch.linalg.LinAlgError as error:
            raise NumericalError(
                f"the Hessian has a rank below {products // 2}; ask for fewer products"
            ) from error
    values = torch.stack(traces).cpu() * outputs / 2
    return Estimate(float(values.mean()), float(values.std() / estimates**0.5))


@mended()
@torch.enable_grad()
def top_eigenvalue(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, tolerance: float = 1e-4, seed: int = 0
) -> float:
    """Largest eigenvalue of the Hessian of the loss, by Lanczos iterations (ARPACK).

    The Hessian is by the parameters that the outputs depend on: the others' zeros are left out.

    Args:
        model: maps (n, ...) to (n, N) or (n,), in evaluation mode if that matters to it.
        inputs: (n, ...), of the parameters' floating-point type.
        targets: (n, N), also (n,) if the outputs are, of the same type; one-hot rows for classes.
        tolerance: relative accuracy of the eigenvalue.
        seed: of the starting vector.

    Returns:
        The eigenvalue.

    Raises:
        UserError: inputs or targets of another shape or type, or a model that cannot be measured
            rightly.
        NumericalError: a parameter, an input or a target is not finite.
    """
    with _seeded(seed, inputs):
        operator, outputs = _hessian(model, inputs, targets)
    dtype = torch.empty(0, dtype=operator.dtype).numpy().dtype
    start = np.random.default_rng(seed).standard_normal(operator.shape[0]).astype(dtype)
    values = eigsh(
        operator.to_scipy(dtype),
        k=1,
        which="LA",
        v0=start,
        tol=tolerance,
        return_eigenvectors=False,
    )
    return float(values[0]) * outputs / 2


@contextmanager
def _seeded(seed: int, inputs: Tensor) -> Iterator[None]:
    """Seeds the global generator, which curvlinops draws from, and puts it back afterwards."""
    with torch.random.fork_rng(devices=[inputs.device] if inputs.is_cuda else []):
        torch.manual_seed(seed)
        yield


def _hessian(
    model: nn.Module, inputs: Tensor, targets: Tensor
) -> tuple[HessianLinearOperator, int]:
    """The Hessian of PyTorch's MSELoss by the parameters that the outputs depend on, and N."""
    refuse_training_mode(model)
    require_finite(model)
    if not all(p.requires_grad for p in model.parameters()):
        raise UserError("the Hessian is by all parameters; call model.requires_grad_() first")
    if inputs.dim() < 2 or len(inputs) == 0:
        raise UserError(f"inputs: shape {tuple(inputs.shape)}; needs samples along the first axis")
    _check_numbers("inputs", inputs, model)
    outputs = model(inputs[:CHUNK].detach())
    width = flat_outputs(outputs).shape[1]
    targets = _shaped_as_outputs(targets, (len(inputs), *outputs.shape[1:]))
    _check_numbers("targets", targets, model)
    if len(inputs) == 1:  # never alone: see `workarounds`; the mean over both is the same
        inputs, targets = torch.cat([inputs, inputs]), torch.cat([targets, targets])
    count = math.ceil(len(inputs) / CHUNK)
    chunks = list(zip(inputs.tensor_split(count), targets.tensor_split(count), strict=True))
    parameters = _used_parameters(model, outputs)
    operator = HessianLinearOperator(model, nn.MSELoss(), parameters, chunks)
    _require_symmetric(operator, model, parameters)
    return operator, width


def _require_symmetric(
    operator: HessianLinearOperator, model: nn.Module, parameters: list[nn.Parameter]
) -> None:
    """Refuses a Hessian H with ⟨u, Hv⟩ ≠ ⟨v, Hu⟩ for random u and v."""
    generator = torch.Generator().manual_seed(0)
    u, v = (
        [torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device) for p in parameters]
        for _ in range(2)
    )
    if not _asymmetric(operator, u, v):
        return
    names = {id(p): name for name, p in model.named_parameters()}
    wrong = [
        names[id(p)]
        for index, p in enumerate(parameters)
        if _asymmetric(operator, _only(u, index), _only(v, index))
    ]
    raise NumericalError(
        "the Hessian is not symmetric, so PyTorch's second derivative is wrong or rounding drowns "
        f"it, by parameter {wrong[0] if wrong else 'unknown: each block is symmetric'}; use "
        "float64, or write its layer without weight norm, spectral norm or code of its own"
    )


def _asymmetric(operator: HessianLinearOperator, u: list[Tensor], v: list[Tensor]) -> bool:
    images = operator @ u, operator @ v
    u, v, Hu, Hv = (torch.cat([t.flatten() for t in ts]).double() for ts in (u, v, *images))
    scale = torch.maximum(u.norm() * Hv.norm(), v.norm() * Hu.norm())
    return bool((u @ Hv - v @ Hu).abs() > ASYMMETRY[operator.dtype] * scale)


def _only(parts: list[Tensor], index: int) -> list[Tensor]:
    """A direction along one parameter."""
    return [t if at == index else torch.zeros_like(t) for at, t in enumerate(parts)]


def _check_numbers(name: str, tensor: Tensor, model: nn.Module) -> None:
    kind = next((p.dtype for p in model.parameters()), tensor.dtype)
    if tensor.dtype != kind or kind not in (torch.float32, torch.float64):
        raise UserError(
            f"{name} are {tensor.dtype}, the parameters {kind}; make both float32 or float64"
        )
    if not torch.isfinite(tensor).all():
        raise NumericalError(f"{name} are not finite; look for nan or inf in the data")


def _shaped_as_outputs(targets: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The targets; a column (n, 1), which `measure` wants for outputs (n,), becomes (n,)."""
    if targets.shape != shape and (len(shape) > 1 or targets.shape != (*shape, 1)):
        raise UserError(
            f"targets: shape {tuple(targets.shape)}, the outputs' is {shape}; "
            "pass class labels as one-hot rows"
        )
    return targets.reshape(shape)


def _used_parameters(model: nn.Module, outputs: Tensor) -> list[nn.Parameter]:
    """Those that the outputs depend on: curvlinops takes no others, and their Hessian is zero."""
    if not outputs.requires_grad:
        raise UserError("the outputs depend on no parameter: there is no Hessian; check forward()")
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(outputs.sum(), parameters, allow_unused=True)
    return [p for p, g in zip(parameters, gradients, strict=True) if g is not None]
