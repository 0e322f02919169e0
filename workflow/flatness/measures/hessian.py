"""The Hessian of the actual training loss: its trace, estimated, and its largest eigenvalue.

At an interpolating minimum S = Tr ∇²L; away from it the residuals' curvature makes the difference.
Loss convention: L = 1/(2n) Σ ||f(x_i) − y_i||², which is N/2 times PyTorch's MSELoss.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from curvlinops import HessianLinearOperator, hutchpp_trace, xtrace
from jaxtyping import Float
from scipy.sparse.linalg import ArpackError, eigsh
from torch import Tensor, nn

from flatness.errors import NumericalError, UserError
from flatness.measures._checks import (
    at_least_two,
    check_inputs,
    check_targets,
    first_line,
    require_counts,
    require_positive,
)
from flatness.measures._jacobians import flat_outputs
from flatness.measures._repeatable import require_function_of_one_sample
from flatness.measures.estimates import Estimate
from flatness.measures.measuring import measuring
from flatness.measures.quantities import LOSS

#: Samples in one backward pass.
CHUNK = 500
#: Up to this many parameters the Hessian is formed in full.
DENSE_SIZE = 20
#: Largest |⟨u, Hv⟩ − ⟨v, Hu⟩| that is put down to rounding, relative to ‖u‖‖Hv‖ or ‖v‖‖Hu‖.
ASYMMETRY = {torch.float32: 1e-3, torch.float64: 1e-9}


@dataclass(frozen=True)
class Hessian:
    """The Hessian of the loss of a model on samples, at the model's present weights.

    Attributes:
        model: maps (n, ...) to (n, N) or (n,).
        inputs: (n, ...).
        targets: (n, N).
        seed: of the random vectors.
        convention: the loss.
    """

    model: nn.Module
    inputs: Float[Tensor, "n ..."]
    targets: Float[Tensor, "n ..."]
    seed: int = 0
    convention: str = field(default=LOSS, init=False)

    def trace(self, *, estimates: int = 5, products: int = 30) -> Estimate:
        """Its trace with a standard error: `hessian_trace`."""
        return hessian_trace(
            self.model,
            self.inputs,
            self.targets,
            estimates=estimates,
            products=products,
            seed=self.seed,
        )

    def top_eigenvalue(self, *, tolerance: float = 1e-4) -> float:
        """Its largest eigenvalue, to a relative tolerance: `top_eigenvalue`."""
        return top_eigenvalue(
            self.model, self.inputs, self.targets, tolerance=tolerance, seed=self.seed
        )


def hessian(
    model: nn.Module,
    inputs: Float[Tensor, "n ..."],
    targets: Float[Tensor, "n ..."],
    *,
    seed: int = 0,
) -> Hessian:
    """The Hessian of the loss by a model's parameters.

    Nothing is computed, or checked, before one of its methods is called.

    Args:
        model: maps (n, ...) to (n, N) or (n,), in evaluation mode if that matters to it.
        inputs: (n, ...), of the parameters' floating-point type.
        targets: (n, N), also (n,) if the outputs are, of the same type; one-hot rows for classes.
        seed: of the random vectors that estimates draw.

    Returns:
        What gives its trace and its largest eigenvalue.
    """
    return Hessian(model, inputs, targets, seed)


def hessian_trace(
    model: nn.Module,
    inputs: Float[Tensor, "n ..."],
    targets: Float[Tensor, "n ..."],
    *,
    estimates: int = 5,
    products: int = 30,
    seed: int = 0,
) -> Estimate:
    """Trace of the Hessian of the loss by XTrace (Epperly, Tropp and Webber, 2024).

    With 30 products its spread at interpolation was a third of Hutch++'s (MLP, LeNet-5, n = 20).
    Where no more parameters are used than products asked for, the trace is computed in full, with a
    standard error of 0. The model's parameters, buffers and modes are left as they were.

    Args:
        model: maps (n, ...) to (n, N) or (n,), in evaluation mode if that matters to it.
        inputs: (n, ...), of the parameters' floating-point type.
        targets: (n, N), also (n,) if the outputs are, of the same type; one-hot rows for classes.
        estimates: independent estimates, at least two.
        products: Hessian-vector products of each; an even number from 4.
        seed: of the random vectors; the global generator is left as it was.

    Returns:
        Mean of the estimates; the standard error is from their spread, the samples held fixed.

    Raises:
        UserError: too few estimates, a wrong number of products, inputs or targets of another
            shape or type, or a model that cannot be measured rightly.
        NumericalError: a parameter, an input, a target or the Hessian is not finite.
    """
    with measuring(model):
        require_counts(2, estimates=estimates)
        require_counts(4, products=products)
        if products % 2:
            raise UserError(f"products is {products}; it must be an even number")
        operator, outputs = _hessian(model, inputs, targets)
        torch.manual_seed(seed)  # of the global generator, which curvlinops draws from
        if operator.shape[0] <= products:
            return Estimate(float(_dense(operator).trace()) * outputs / 2, 0.0)
        traces = [_estimated_trace(operator, products) for _ in range(estimates)]
        values = torch.tensor(traces, dtype=torch.float64) * outputs / 2
        _require_finite_hessian(values)
        return Estimate(float(values.mean()), float(values.std() / estimates**0.5))


def _estimated_trace(operator: HessianLinearOperator, products: int) -> float:
    try:
        return float(xtrace(operator, products))
    except torch.linalg.LinAlgError:
        # its matrix of products is singular, as where the rank is below half their number
        return float(hutchpp_trace(operator, products - products % 3))


def _dense(operator: HessianLinearOperator) -> Tensor:
    """The Hessian in full, float64."""
    columns = torch.eye(operator.shape[0], dtype=operator.dtype, device=operator.device)
    full = (operator @ columns).double()
    _require_finite_hessian(full)
    return full


def _require_finite_hessian(values: Tensor) -> None:
    if not torch.isfinite(values).all():
        raise NumericalError("the Hessian is not finite; check the inputs, targets and weights")


def top_eigenvalue(
    model: nn.Module,
    inputs: Float[Tensor, "n ..."],
    targets: Float[Tensor, "n ..."],
    *,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> float:
    """Largest eigenvalue of the Hessian of the loss, by Lanczos iterations (ARPACK).

    The Hessian is by the parameters that the outputs depend on: the others' zeros are left out. The
    model's parameters, buffers and modes are left as they were.

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
        NumericalError: a parameter, an input, a target or the Hessian is not finite, or Lanczos
            iterations do not converge.
    """
    with measuring(model):
        require_positive(tolerance=tolerance)
        operator, outputs = _hessian(model, inputs, targets)
        if operator.shape[0] <= DENSE_SIZE:
            full = _dense(operator)
            return float(torch.linalg.eigvalsh((full + full.T) / 2)[-1]) * outputs / 2
        return _lanczos(operator, tolerance, seed) * outputs / 2


def _lanczos(operator: HessianLinearOperator, tolerance: float, seed: int) -> float:
    """The largest eigenvalue, algebraically."""
    start = torch.from_numpy(np.random.default_rng(seed).standard_normal(operator.shape[0]))
    start = start.to(operator.device, operator.dtype)
    image = operator @ start
    _require_finite_hessian(image)
    if not image.any():
        return 0.0  # a Hessian of zeros, which ARPACK cannot start from
    start = start.cpu().numpy()
    try:
        (value,) = eigsh(
            operator.to_scipy(start.dtype),
            k=1,
            which="LA",
            v0=start,
            tol=tolerance,
            return_eigenvectors=False,
        )
    except ArpackError as error:
        raise NumericalError(
            f"no largest eigenvalue found: {first_line(error)}; ask for a larger tolerance"
        ) from error
    return float(value)


def _hessian(
    model: nn.Module, inputs: Tensor, targets: Tensor
) -> tuple[HessianLinearOperator, int]:
    """The Hessian of PyTorch's MSELoss by the parameters that the outputs depend on, and N."""
    inputs = check_inputs(model, inputs)
    width = flat_outputs(require_function_of_one_sample(model, inputs)).shape[1]
    if not all(p.requires_grad for p in model.parameters()):
        raise UserError("the Hessian is by all parameters; call model.requires_grad_() first")
    outputs = model(at_least_two(inputs[:CHUNK]))
    targets = check_targets(model, targets, (len(inputs), *outputs.shape[1:]))
    # never alone: see `workarounds`; the mean over both is the same
    inputs, targets = at_least_two(inputs), at_least_two(targets)
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
    a, b, Ha, Hb = (torch.cat([t.flatten() for t in ts]).double() for ts in (u, v, *images))
    scale = torch.maximum(a.norm() * Hb.norm(), b.norm() * Ha.norm())
    return bool((a @ Hb - b @ Ha).abs() > ASYMMETRY[operator.dtype] * scale)


def _only(parts: list[Tensor], index: int) -> list[Tensor]:
    """A direction along one parameter."""
    return [t if at == index else torch.zeros_like(t) for at, t in enumerate(parts)]


def _used_parameters(model: nn.Module, outputs: Tensor) -> list[nn.Parameter]:
    """Those that the outputs depend on: curvlinops takes no others, and their Hessian is zero."""
    if not outputs.requires_grad:
        raise UserError("the outputs depend on no parameter: there is no Hessian; check forward()")
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(outputs.sum(), parameters, allow_unused=True)
    return [p for p, g in zip(parameters, gradients, strict=True) if g is not None]
