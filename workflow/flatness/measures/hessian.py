"""The Hessian of the actual training loss: its trace, estimated, and its largest eigenvalue.

At an interpolating minimum S = Tr ∇²L; away from it the residuals' curvature makes the difference.
Loss convention: L = 1/(2n) Σ ||f(x_i) − y_i||², which is N/2 times PyTorch's MSELoss.
"""

import math

import numpy as np
import torch
from curvlinops import HessianLinearOperator
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
from flatness.measures._network import flat_outputs
from flatness.measures._operators import (
    _dense,
    _estimated_trace,
    _require_finite_hessian,
    _require_symmetric,
)
from flatness.measures._repeatable import require_function_of_one_sample
from flatness.measures.estimates import Estimate
from flatness.measures.measuring import measuring

#: Samples in one backward pass.
CHUNK = 500
#: Up to this many parameters the Hessian is formed in full.
DENSE_SIZE = 20


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


def _used_parameters(model: nn.Module, outputs: Tensor) -> list[nn.Parameter]:
    """Those that the outputs depend on: curvlinops takes no others, and their Hessian is zero."""
    if not outputs.requires_grad:
        raise UserError("the outputs depend on no parameter: there is no Hessian; check forward()")
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(outputs.sum(), parameters, allow_unused=True)
    return [p for p, g in zip(parameters, gradients, strict=True) if g is not None]
