"""The Hessian of the actual training loss: its trace, estimated, and its largest eigenvalue.

At an interpolating minimum S = Tr ∇²L; away from it the residuals' curvature makes the difference.
Loss convention: L = 1/(2n) Σ ||f(x_i) − y_i||², which is N/2 times PyTorch's MSELoss.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from curvlinops import HessianLinearOperator, xtrace
from jaxtyping import Float
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

from flatness.errors import NumericalError, UserError
from flatness.measures._jacobians import flat_outputs, refuse_training_mode, require_finite
from flatness.measures.estimates import Estimate
from flatness.measures.quantities import LOSS

#: Samples in one backward pass.
CHUNK = 500


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


@torch.enable_grad()
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


@torch.enable_grad()
def top_eigenvalue(
    model: nn.Module,
    inputs: Float[Tensor, "n ..."],
    targets: Float[Tensor, "n ..."],
    *,
    tolerance: float = 1e-4,
    seed: int = 0,
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
    chunks = list(zip(inputs.split(CHUNK), targets.split(CHUNK), strict=True))
    parameters = _used_parameters(model, outputs)
    return HessianLinearOperator(model, nn.MSELoss(), parameters, chunks), width


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
