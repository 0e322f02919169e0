"""The ends of a symmetric operator's spectrum, and its density, by Lanczos iterations."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from curvlinops._torch_base import CurvatureLinearOperator
from curvlinops.papyan2020traces.spectrum import fast_lanczos
from jaxtyping import Float
from scipy.sparse import identity
from scipy.sparse.linalg import ArpackError, aslinearoperator, eigsh
from torch import Tensor

from flatness.errors import NumericalError
from flatness.measures._checks import first_line
from flatness.measures._operators import _dense, _require_finite_hessian

#: Up to this number of parameters, the operator is formed in full.
DENSE_SIZE = 20
#: Most restarts of ARPACK, each of some twenty products.
RESTARTS = 300
#: The same from a small basis, before a larger one is tried.
FEW_RESTARTS = 10

End = Literal["top", "bottom"]


@dataclass(frozen=True)
class Eigenvalues:
    """Some eigenvalues from one end of a spectrum.

    Attributes:
        values: (k,), from the end inwards.
        residuals: ‖Hv − λv‖ of each, (k,): an eigenvalue of H lies within this distance of each
            value.
        vectors: unit eigenvectors by parameter, each (k, ...); empty unless they were asked for.
        convention: the loss and the matrix.
    """

    values: Float[Tensor, " k"]
    residuals: Float[Tensor, " k"]
    vectors: dict[str, Tensor]
    convention: str


@dataclass(frozen=True)
class SpectralDensity:
    """Density of a spectrum's eigenvalues: φ(t) = 1/D Σ_i g(t − λ_i), g a narrow Gaussian.

    Attributes:
        grid: t, (points,).
        density: estimate of φ(t), (points,); its integral is 1.
        standard_error: of the density over probes, (points,).
        width: standard deviation of g, in the eigenvalues' unit.
        nodes: Ritz values of each probe, (probes, steps).
        weights: weights w of the nodes, (probes, steps), each row with sum 1. D times the mean over
            probes of Σ w f(node) estimates Tr f(H).
        size: D, the number of parameters that the outputs depend on.
        convention: the loss and the matrix.
    """

    grid: Float[Tensor, " points"]
    density: Float[Tensor, " points"]
    standard_error: Float[Tensor, " points"]
    width: float
    nodes: Float[Tensor, "probes steps"]
    weights: Float[Tensor, "probes steps"]
    size: int
    convention: str


def end_of_spectrum(
    operator: CurvatureLinearOperator, count: int, end: End, tolerance: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Eigenvalues from one end, by ARPACK, or by a full decomposition if there are few.

    Args:
        operator: (D, D), symmetric.
        count: k, how many.
        end: "top" for the largest, "bottom" for the smallest, algebraically.
        tolerance: accuracy of the eigenvalues, relative to the largest in size.
        seed: of the starting vector.

    Returns:
        Values (k,), from the end inwards, and unit vectors in columns (D, k), float64.

    Raises:
        NumericalError: the operator is not finite, or the iterations do not converge.
    """
    size = operator.shape[0]
    if size <= max(DENSE_SIZE, count + 1):
        full = _dense(operator)
        values, vectors = torch.linalg.eigh((full + full.T) / 2)
    else:
        values, vectors = _arpack(operator, count, end, tolerance, seed)
    order = values.argsort(descending=end == "top")[:count]
    return values[order], vectors[:, order]


def _arpack(
    operator: CurvatureLinearOperator, count: int, end: End, tolerance: float, seed: int
) -> tuple[Tensor, Tensor]:
    size = operator.shape[0]
    start = torch.from_numpy(np.random.default_rng(seed).standard_normal(size))
    start = start.to(operator.device, operator.dtype)
    image = operator @ start
    _require_finite_hessian(image)
    if not image.any():  # ARPACK cannot start from an operator of zeros
        return torch.zeros(count).double(), torch.eye(size, count).double()
    start = start.cpu().numpy()
    matrix = operator.to_scipy(start.dtype)
    if end == "top":  # a few stand out of most spectra, and are found from a small basis
        try:
            small = {"v0": start, "maxiter": FEW_RESTARTS, "ncv": min(size, 2 * count + 4)}
            values, vectors = eigsh(matrix, count, which="LA", tol=tolerance, **small)
            return torch.from_numpy(values).double(), torch.from_numpy(vectors).double()
        except ArpackError:
            pass  # they do not stand out, or some are zero
    sign = 1 if end == "top" else -1
    try:
        how = {"v0": start, "maxiter": RESTARTS}
        largest = eigsh(matrix, 1, which="LM", tol=0.1, return_eigenvectors=False, **how)
        # ARPACK's tolerance is relative to each value, so no tolerance is small enough at zero:
        # the spectrum is shifted away from zero by its own size.
        shift = sign * float(np.abs(largest[0])) * aslinearoperator(identity(size, start.dtype))
        values, vectors = eigsh(matrix + shift, count, which="LM", tol=tolerance, **how)
    except ArpackError as error:
        raise NumericalError(
            f"no {end} eigenvalues found: {first_line(error)}; ask for a larger tolerance"
        ) from error
    vectors = torch.from_numpy(vectors).double()
    return torch.from_numpy(values).double() - sign * float(np.abs(largest[0])), vectors


def residuals(
    operator: CurvatureLinearOperator, values: Float[Tensor, " k"], vectors: Float[Tensor, "D k"]
) -> Float[Tensor, " k"]:
    """‖Hv − λv‖ of each pair."""
    images = operator @ vectors.to(operator.device, operator.dtype)
    return (images.double().cpu() - vectors * values).norm(dim=0)


def quadrature(
    operator: CurvatureLinearOperator, steps: int, probes: int
) -> tuple[Float[Tensor, "probes steps"], Float[Tensor, "probes steps"]]:
    """Nodes and weights whose Σ w f(node) has the mean Tr f(H)/D over random probes.

    Stochastic Lanczos quadrature (Ubaru, Chen and Saad, 2017): for a polynomial f of a degree below
    2·steps, only the probe is random. If D is at most `steps`, the result is the spectrum itself.

    Args:
        operator: (D, D), symmetric.
        steps: Lanczos steps from each probe.
        probes: random vectors, drawn from the global generator.

    Returns:
        Nodes and weights, float64.

    Raises:
        NumericalError: the operator is not finite.
    """
    size = operator.shape[0]
    if size <= steps:
        full = _dense(operator)
        nodes = torch.linalg.eigvalsh((full + full.T) / 2).cpu().repeat(probes, 1)
        return nodes, torch.full_like(nodes, 1 / size)
    rules = [_rule(operator, steps) for _ in range(probes)]
    nodes, weights = (torch.stack(parts) for parts in zip(*rules, strict=True))
    return nodes, weights


def _rule(operator: CurvatureLinearOperator, steps: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights from one probe; with fewer steps if no new direction is left."""
    state, taken = torch.get_rng_state(), steps
    nodes, vectors = _lanczos(operator, taken)
    while not torch.isfinite(nodes).all() and taken > 1:
        torch.set_rng_state(state)  # the same probe
        taken //= 2
        nodes, vectors = _lanczos(operator, taken)
    _require_finite_hessian(nodes)
    rest = steps - taken
    weights = vectors[0].double().square().cpu()
    nodes = torch.cat([nodes.double().cpu(), nodes[-1:].double().cpu().expand(rest)])
    return nodes, torch.cat([weights, torch.zeros(rest).double()])


def _lanczos(operator: CurvatureLinearOperator, steps: int) -> tuple[Tensor, Tensor]:
    """Ritz values and vectors; NaN where an invariant subspace was met exactly."""
    try:
        return fast_lanczos(operator, steps)
    except torch.linalg.LinAlgError:  # of a matrix with NaN
        return torch.full((steps,), torch.nan), torch.full((steps, steps), torch.nan)


def density_of(
    nodes: Float[Tensor, "probes steps"],
    weights: Float[Tensor, "probes steps"],
    *,
    points: int,
    width: float | None,
    size: int,
    convention: str,
) -> SpectralDensity:
    """The density by a quadrature.

    Args:
        nodes: from `quadrature`.
        weights: likewise.
        points: of the grid.
        width: see `SpectralDensity`; None is the spectrum's range divided by steps. A Gaussian of
            that width is a polynomial of degree 2·steps up to exp(−8) of its height, so the
            quadrature adds no structure of its own.
        size: see `SpectralDensity`.
        convention: likewise.

    Returns:
        The density on a grid that reaches four widths beyond the spectrum.
    """
    low, high = float(nodes.min()), float(nodes.max())
    if width is None:
        scale = max(abs(low), abs(high)) or 1.0
        # for a single eigenvalue the range is only rounding
        width = max(high - low, 1e-4 * scale) / nodes.shape[1]
    grid = torch.linspace(low - 4 * width, high + 4 * width, points, dtype=torch.float64)
    bumps = torch.exp(-((grid - nodes[..., None]) ** 2) / (2 * width**2))
    each = (weights[..., None] * bumps).sum(1) / (width * (2 * torch.pi) ** 0.5)
    error = each.std(0) / len(each) ** 0.5
    return SpectralDensity(grid, each.mean(0), error, width, nodes, weights, size, convention)
