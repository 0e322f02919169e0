"""Trace and largest eigenvalue of the Hessian of L = 1/(2n) Σ ‖f(x) − y‖², the papers' loss.

`flatness.measures.loss_hessian` takes any loss. At an interpolating minimum S = Tr ∇²L; elsewhere
the residuals add curvature. PyTorch's MSELoss is 2/N times this loss.
"""

from jaxtyping import Float
from torch import Tensor, nn

from flatness.measures._checks import check_inputs, check_targets
from flatness.measures._repeatable import require_function_of_one_sample
from flatness.measures.estimates import Estimate
from flatness.measures.loss_hessian import Hessian, hessian
from flatness.measures.measuring import measuring


def hessian_trace(
    model: nn.Module,
    inputs: Float[Tensor, "n ..."],
    targets: Float[Tensor, "n ..."],
    *,
    estimates: int = 5,
    products: int = 30,
    seed: int = 0,
) -> Estimate:
    """Trace of the Hessian by XTrace.

    With 30 products, its spread at interpolation was a third of Hutch++'s (MLP, LeNet-5, n = 20).

    Args:
        model: maps (n, ...) to (n, N) or (n,), in evaluation mode if that matters to it.
        inputs: (n, ...), of the parameters' floating-point type.
        targets: (n, N), also (n,) if the outputs are, of the same type; one-hot rows for classes.
        estimates: see `Hessian.trace`.
        products: see `Hessian.trace`.
        seed: of the random vectors.

    Returns:
        Mean of the estimates; the standard error comes from their spread, for fixed samples.

    Raises:
        UserError: a wrong setting, inputs or targets of another shape or type, or a model that
            cannot be measured rightly.
        NumericalError: a parameter, an input, a target or the Hessian is not finite.
    """
    found = _of_squared_error(model, inputs, targets, seed)
    return found.trace(estimates=estimates, products=products)


def top_eigenvalue(
    model: nn.Module,
    inputs: Float[Tensor, "n ..."],
    targets: Float[Tensor, "n ..."],
    *,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> float:
    """Largest eigenvalue of the Hessian by the parameters that the outputs depend on.

    Args:
        model: as in `hessian_trace`.
        inputs: likewise.
        targets: likewise.
        tolerance: relative accuracy of the eigenvalue.
        seed: of the starting vector.

    Returns:
        The eigenvalue.

    Raises:
        UserError: as `hessian_trace`.
        NumericalError: as `hessian_trace`, or Lanczos iterations do not converge.
    """
    return _of_squared_error(model, inputs, targets, seed).top_eigenvalue(tolerance=tolerance)


def _of_squared_error(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int) -> Hessian:
    with measuring(model):
        inputs = check_inputs(model, inputs)
        outputs = require_function_of_one_sample(model, inputs)
        targets = check_targets(model, targets, (len(inputs), *outputs.shape[1:]))
    return hessian(model, inputs, targets, seed=seed)
