"""One function per library: its way to each quantity, in our convention.

Each call gets a copy of the model: PyHessian leaves gradients on it, and BackPACK hooks.
"""

import copy
import math
from collections.abc import Callable, Iterator

import curvlinops
import hessian_eigenthings as eigenthings
import torch
from backpack import backpack, extend, extensions
from laplace.curvature import BackPackGGN, CurvlinopsGGN
from pyhessian import hessian as pyhessian
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacrev, vmap
from torch.nn import functional

import flatness
from benchmarks.concordance.quantities import (
    COUNT,
    DENSE,
    Case,
    Entry,
    Found,
    estimate,
    shown_spectrum,
)
from flatness.measures.loss_hessian import Hessian

#: Matrix-vector products of an estimate by single probes.
PROBES = 200
#: Lanczos steps.
STEPS = 60
TOLERANCE = 1e-10


def copied(case: Case) -> nn.Sequential:
    return copy.deepcopy(case.model)


# ours


class LossOfSample(nn.Module):
    """A network whose one output is the loss of a sample that holds its target."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.network, self.shape, self.loss = copied(case), case.inputs.shape[1:], case.loss

    def forward(self, packed: Tensor) -> Tensor:
        """Losses (n, 1) of rows of inputs and targets."""
        inputs, targets = packed.split(
            [self.shape.numel(), packed.shape[1] - self.shape.numel()], 1
        )
        outputs = self.network(inputs.unflatten(1, self.shape))
        if self.loss == "squared_error":
            return (outputs - targets).square().sum(1, keepdim=True) / 2
        return -(outputs.log_softmax(1) * targets).sum(1, keepdim=True)


def ours(case: Case) -> Iterator[Entry]:
    """`flatness`."""

    def curvature(matrix: str = "hessian") -> Hessian:
        return flatness.hessian(
            copied(case), case.inputs, case.targets, loss=case.loss, matrix=matrix
        )

    def trace(matrix: str) -> Found:
        found = curvature(matrix).trace(estimates=10)
        return Found(torch.tensor(found.value), found.standard_error)

    def mean_square() -> Found:
        # two steps are exact for polynomials of a degree below four but for the probe
        density = curvature().spectral_density(steps=2, probes=PROBES // 2)
        return estimate((density.weights * density.nodes.square()).sum(1))

    def sharpness() -> Found:
        found = flatness.measure(copied(case), case.inputs, quantities=["sharpness"])
        return Found(torch.tensor(found["sharpness"].value))

    def gradient_norms() -> Found:
        packed = torch.cat([case.inputs.flatten(1), case.one_hot], 1)
        found = flatness.measure(LossOfSample(case), packed, quantities=["sharpness"])
        return Found(found.samples.squared_gradient.sqrt())

    def singular_values() -> Found:
        s = flatness.measure(copied(case), case.inputs, quantities=["mls"]).samples
        return Found(torch.stack([s.mls, s.jacobian_squared.sqrt(), s.log_volume_top3], 1))

    yield Entry("trace", "hessian(…).trace(estimates=10)", lambda: trace("hessian"))
    yield Entry(
        "top_eigenvalues",
        f"hessian(…).eigenvalues({COUNT})",
        lambda: Found(curvature().eigenvalues(COUNT, tolerance=TOLERANCE).values),
    )
    yield Entry("mean_square", "hessian(…).spectral_density(): Σ w·node²", mean_square)
    yield Entry(
        "ggn_trace", 'hessian(…, matrix="gauss_newton").trace()', lambda: trace("gauss_newton")
    )
    yield Entry("sharpness", "measure(…)['sharpness']", sharpness)
    yield Entry("gradient_norms", "measure() of a network that ends in its loss", gradient_norms)
    yield Entry("singular_values", "measure(…).samples", singular_values)


# torch.func


def torch_func(case: Case) -> Iterator[Entry]:
    """Explicit matrices by `torch.func`: what the others are held against, where they fit."""
    model = case.model
    names, shapes = zip(*((n, p.shape) for n, p in model.named_parameters()), strict=True)
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def outputs(w: Tensor, x: Tensor) -> Tensor:
        parts = w.split([shape.numel() for shape in shapes])
        named = {n: p.reshape(s) for n, s, p in zip(names, shapes, parts, strict=True)}
        return functional_call(model, named, (x[None],))[0]

    def loss_of(f: Tensor, target: Tensor) -> Tensor:
        if case.loss == "cross_entropy":
            return functional.cross_entropy(f, target)
        return (f - target).square().sum() / 2

    def loss(w: Tensor) -> Tensor:
        each = vmap(lambda x, y: loss_of(outputs(w, x), y))(case.inputs, case.targets)
        return each.mean()

    def spectrum() -> Tensor:
        return torch.linalg.eigvalsh(hessian(loss)(flat)).flip(0)

    def by_products() -> Found:
        def product(v: object) -> object:
            vector = torch.as_tensor(v).flatten()
            return torch.func.jvp(grad(loss), (flat,), (vector,))[1].detach().numpy()

        operator = LinearOperator((len(flat), len(flat)), matvec=product, dtype=float)
        values = eigsh(operator, COUNT, which="LA", tol=TOLERANCE, return_eigenvectors=False)
        return Found(torch.from_numpy(values).flip(0))

    def parameter_rows() -> Iterator[tuple[Tensor, Tensor]]:
        """Of each sample f and ∂f/∂w: of all at once they would fill the memory."""
        for x in case.inputs:
            yield outputs(flat, x), jacrev(outputs)(flat, x)

    def ggn_diagonal() -> Tensor:
        diagonal = torch.zeros_like(flat)
        for (f, J), target in zip(parameter_rows(), case.targets, strict=True):
            diagonal += ((hessian(loss_of)(f, target) @ J) * J).sum(0) / len(case.inputs)
        return diagonal

    def gradient_norms() -> Found:
        def of_sample(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return loss_of(outputs(w, x), y)

        rows = vmap(grad(of_sample), (None, 0, 0))(flat, case.inputs, case.targets)
        return Found(rows.norm(dim=1))

    def singular_values() -> Found:
        J = vmap(jacrev(lambda x: outputs(flat, x)))(case.inputs)
        return Found(shown_spectrum(torch.linalg.svdvals(J.flatten(2))))

    if case.size <= DENSE:
        yield Entry("trace", "hessian", lambda: Found(spectrum().sum()))
        yield Entry("top_eigenvalues", "hessian, eigvalsh", lambda: Found(spectrum()[:COUNT]))
        yield Entry("mean_square", "hessian", lambda: Found(spectrum().square().mean()))
    else:
        yield Entry("top_eigenvalues", "jvp of grad, SciPy's eigsh", by_products)
    yield Entry("ggn_trace", "jacrev", lambda: Found(ggn_diagonal().sum()))
    yield Entry("ggn_diagonal", "jacrev", lambda: Found(ggn_diagonal()))
    yield Entry(
        "sharpness",
        "jacrev",
        lambda: Found(torch.stack([J.square().sum() for _, J in parameter_rows()]).mean()),
    )
    yield Entry("gradient_norms", "vmap(grad)", gradient_norms)
    yield Entry("singular_values", "vmap(jacrev), svdvals", singular_values)


# curvlinops


def curvlinops_(case: Case) -> Iterator[Entry]:
    """`curvlinops`, which our Hessian takes its products from."""

    def operator(kind: type, criterion: nn.Module = case.criterion) -> object:
        model = copied(case)
        targets = case.one_hot if isinstance(criterion, nn.MSELoss) else case.targets
        return kind(model, criterion, list(model.parameters()), [(case.inputs, targets)])

    def estimated(kind: type, factor: float, **how: nn.Module) -> Found:
        torch.manual_seed(0)
        A = operator(kind, **how)
        return estimate(torch.stack([curvlinops.xtrace(A, 30) for _ in range(10)]), factor)

    def eigenvalues() -> Found:
        A = operator(curvlinops.HessianLinearOperator).to_scipy()
        values = eigsh(A, COUNT, which="LA", tol=TOLERANCE, return_eigenvectors=False)
        return Found(torch.from_numpy(values).flip(0) * case.factor)

    def mean_square() -> Found:
        torch.manual_seed(0)
        A = operator(curvlinops.HessianLinearOperator)
        squares = [curvlinops.hutchinson_squared_fro(A, 10) for _ in range(PROBES // 10)]
        return estimate(torch.stack(squares) / case.size, case.factor**2)

    def ggn_diagonal() -> Found:
        G = operator(curvlinops.GGNLinearOperator)
        return Found((G @ torch.eye(case.size, dtype=torch.float64)).diag() * case.factor)

    yield Entry(
        "trace",
        "xtrace(HessianLinearOperator, 30), ten times",
        lambda: estimated(curvlinops.HessianLinearOperator, case.factor),
        case.factor_words,
    )
    yield Entry("top_eigenvalues", "to_scipy(), eigsh", eigenvalues, case.factor_words)
    squared = case.factor_words and "× (N/2)²"
    yield Entry("mean_square", "hutchinson_squared_fro / D", mean_square, squared)
    yield Entry(
        "ggn_trace",
        "xtrace(GGNLinearOperator, 30), ten times",
        lambda: estimated(curvlinops.GGNLinearOperator, case.factor),
        case.factor_words,
    )
    if case.size <= DENSE:
        yield Entry("ggn_diagonal", "GGNLinearOperator @ identity", ggn_diagonal, case.factor_words)
    yield Entry(
        "sharpness",
        "xtrace(GGNLinearOperator of MSELoss), ten times",
        lambda: estimated(curvlinops.GGNLinearOperator, case.outputs / 2, criterion=nn.MSELoss()),
        "× N/2",
    )


# BackPACK


def backpack_(case: Case) -> Iterator[Entry]:
    """BackPACK."""

    def swept(extension: object, attribute: str, criterion: nn.Module = case.criterion) -> list:
        """What one backward pass leaves on the parameters, in their order."""
        model, criterion = extend(copied(case)), extend(criterion)
        targets = case.one_hot if isinstance(criterion, nn.MSELoss) else case.targets
        loss = criterion(model(case.inputs), targets)
        with backpack(extension):
            loss.backward()
        return [getattr(p, attribute) for p in model.parameters()]

    def flat(parts: list[Tensor], factor: float = case.factor) -> Tensor:
        return torch.cat([part.flatten() for part in parts]) * factor

    def sharpness() -> Found:
        diagonal = swept(extensions.DiagGGNExact(), "diag_ggn_exact", nn.MSELoss())
        return Found(flat(diagonal, case.outputs / 2).sum())

    def gradient_norms() -> Found:
        squares = torch.stack(swept(extensions.BatchL2Grad(), "batch_l2")).sum(0)
        return Found(squares.sqrt() * len(case.inputs) * case.factor)

    def singular_values() -> Found:
        """A linear first layer's bias has the gradients δ at its output, and ∂f/∂x = δ W."""
        model, rows = extend(copied(case)), []
        for k in range(case.outputs):
            with backpack(extensions.BatchGrad()):
                model(case.inputs)[:, k].sum().backward()
            rows.append(model[0].bias.grad_batch @ model[0].weight.detach())
        return Found(shown_spectrum(torch.linalg.svdvals(torch.stack(rows, 1))))

    def diagonal(extension: object, attribute: str) -> Callable[[], Tensor]:
        return lambda: flat(swept(extension, attribute))

    hessian_diagonal = diagonal(extensions.DiagHessian(), "diag_h")
    ggn_diagonal = diagonal(extensions.DiagGGNExact(), "diag_ggn_exact")
    factor = case.factor_words
    yield Entry("trace", "DiagHessian", lambda: Found(hessian_diagonal().sum()), factor)
    yield Entry("ggn_trace", "DiagGGNExact", lambda: Found(ggn_diagonal().sum()), factor)
    yield Entry("ggn_diagonal", "DiagGGNExact", lambda: Found(ggn_diagonal()), factor)
    yield Entry("sharpness", "DiagGGNExact of MSELoss", sharpness, "× N/2")
    yield Entry("gradient_norms", "BatchL2Grad", gradient_norms, f"× n {factor}".strip())
    if isinstance(case.model[0], nn.Linear):
        yield Entry("singular_values", "BatchGrad of the first bias, N times", singular_values)


# PyHessian


def pyhessian_(case: Case) -> Iterator[Entry]:
    """PyHessian, on one batch."""

    def made() -> pyhessian:
        torch.manual_seed(0)
        return pyhessian(copied(case), case.criterion, data=(case.inputs, case.targets), cuda=False)

    def trace() -> Found:
        return estimate(torch.tensor(made().trace(maxIter=PROBES, tol=-math.inf)), case.factor)

    def eigenvalues() -> Found:
        values, _ = made().eigenvalues(maxIter=3000, tol=1e-12, top_n=COUNT)
        return Found(torch.tensor(values) * case.factor)

    def mean_square() -> Found:
        nodes, weights = (torch.tensor(part) for part in made().density(iter=2, n_v=PROBES // 2))
        return estimate((weights * nodes.square()).sum(1), case.factor**2)

    factor = case.factor_words
    yield Entry("trace", f"trace(maxIter={PROBES}, tol=-inf)", trace, factor)
    yield Entry(
        "top_eigenvalues", "eigenvalues(maxIter=3000, tol=1e-12)", eigenvalues, factor, digits=5
    )
    yield Entry(
        "mean_square",
        "density()",
        mean_square,
        factor and "× (N/2)²",
        refused="This function was deprecated since version 1.9 and is now removed",
    )


# hessian-eigenthings


def eigenthings_(case: Case) -> Iterator[Entry]:
    """hessian-eigenthings."""
    data = [(case.inputs, case.targets)]

    def hessian_operator() -> eigenthings.HessianOperator:
        return eigenthings.HessianOperator(
            copied(case), data, eigenthings.supervised_loss(case.criterion)
        )

    def ggn_operator() -> eigenthings.GGNOperator:
        return eigenthings.GGNOperator(
            copied(case),
            data,
            eigenthings.supervised_forward,
            eigenthings.supervised_loss_of_output(case.criterion),
        )

    def trace(operator: Callable) -> Found:
        found = eigenthings.trace(operator(), num_matvecs=PROBES, seed=0)
        return Found(torch.tensor(found.estimate * case.factor), found.stderr * case.factor)

    def eigenvalues() -> Found:
        found = eigenthings.lanczos(
            hessian_operator(), k=COUNT, max_iter=STEPS, reorthogonalize=True, which="LA", seed=0
        )
        return Found(found.eigenvalues * case.factor)

    def mean_square() -> Found:
        found = eigenthings.spectral_density(
            hessian_operator(), num_runs=PROBES // 2, lanczos_steps=2, num_grid_points=2
        )
        moments = (found.raw_weights * found.raw_eigenvalues.square()).sum(1)
        return estimate(moments, case.factor**2)

    factor = case.factor_words
    yield Entry("trace", f'trace("hutch++", {PROBES})', lambda: trace(hessian_operator), factor)
    yield Entry("top_eigenvalues", f"lanczos(max_iter={STEPS})", eigenvalues, factor)
    yield Entry("mean_square", "spectral_density: Σ w·node²", mean_square, factor and "× (N/2)²")
    yield Entry(
        "ggn_trace", f'trace("hutch++", {PROBES}) of GGN', lambda: trace(ggn_operator), factor
    )


# laplace-torch


def laplace_(case: Case) -> Iterator[Entry]:
    """laplace-torch: its curvatures are sums over samples, for regression of ½‖f(x) − y‖²."""
    n = len(case.inputs)
    likelihood = "classification" if case.loss == "cross_entropy" else "regression"

    def diagonal(backend: type, chosen: str = likelihood) -> Tensor:
        targets = case.targets if chosen == likelihood else case.one_hot
        return backend(copied(case), chosen).diag(case.inputs, targets)[1] / n

    def gradient_norms() -> Found:
        rows, _ = CurvlinopsGGN(copied(case), likelihood).gradients(case.inputs, case.targets)
        return Found(rows.norm(dim=1) * (1.0 if likelihood == "classification" else 0.5))

    yield Entry(
        "ggn_trace", "CurvlinopsGGN.diag", lambda: Found(diagonal(CurvlinopsGGN).sum()), "/ n"
    )
    for backend in (CurvlinopsGGN, BackPackGGN):
        yield Entry(
            "ggn_diagonal",
            f"{backend.__name__}.diag",
            lambda backend=backend: Found(diagonal(backend)),
            "/ n",
        )
    yield Entry(
        "sharpness",
        'CurvlinopsGGN.diag, "regression"',
        lambda: Found(diagonal(CurvlinopsGGN, "regression").sum()),
        "/ n",
    )
    factor = "" if likelihood == "classification" else "× ½"
    yield Entry("gradient_norms", "CurvlinopsGGN.gradients", gradient_norms, factor)


LIBRARIES: dict[str, tuple[str, Callable[[Case], Iterator[Entry]]]] = {
    "flatness": ("flatness", ours),
    "torch.func": ("torch", torch_func),
    "curvlinops": ("curvlinops-for-pytorch", curvlinops_),
    "BackPACK": ("backpack-for-pytorch", backpack_),
    "PyHessian": ("pyhessian", pyhessian_),
    "hessian-eigenthings": ("hessian-eigenthings", eigenthings_),
    "laplace-torch": ("laplace-torch", laplace_),
}
