"""The Hessian and the Gauss-Newton matrix of any loss of a network, whole or layer by layer.

    H = ∇²L(w)        G = 1/n Σ Jᵀ (∇²_f ℓ) J,  J = ∂f/∂w

G leaves out the network's own curvature Σ ∂ℓ/∂f ∇²f: it is H at an interpolating minimum of the
squared error, and positive semi-definite for every convex loss. curvlinops computes the
matrix-vector products. Samples are taken as given: no standard error covers their choice.
"""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from curvlinops import GGNLinearOperator, HessianLinearOperator
from jaxtyping import Shaped
from torch import Tensor, nn

from flatness.errors import UserError
from flatness.measures._batches import Evaluate, Objective
from flatness.measures._checks import TYPES, require_counts, require_positive
from flatness.measures._operators import (
    KeptHessian,
    _dense,
    _estimated_trace,
    _require_finite_hessian,
    _require_symmetric,
)
from flatness.measures._progress import bar
from flatness.measures.estimates import Estimate
from flatness.measures.lanczos import (
    Eigenvalues,
    End,
    SpectralDensity,
    density_of,
    end_of_spectrum,
    quadrature,
    residuals,
)
from flatness.measures.losses import Loss, LossFunction, named_loss
from flatness.measures.measuring import measuring

Matrix = Literal["hessian", "gauss_newton"]
OPERATORS = {"hessian": HessianLinearOperator, "gauss_newton": GGNLinearOperator}
WORDS = {"hessian": "Hessian", "gauss_newton": "Gauss-Newton matrix"}


@dataclass(frozen=True)
class Hessian:
    """A curvature matrix of the loss of a model on data, at the model's present weights.

    The matrix covers the parameters that the loss depends on; rows and columns of other parameters
    are zero, and left out of spectra. Each method reads and checks the data again, and leaves the
    model as it was.

    Attributes:
        model: the network.
        inputs: samples, or batches.
        targets: of samples; None for batches.
        loss: its function and convention.
        evaluate: maps the model and a batch to outputs and loss; None for inputs and targets.
        matrix: "hessian" or "gauss_newton".
        dtype: type of the measured copy of the model; None measures the model itself.
        layer: the module whose block this is; None is all parameters.
        seed: of the random vectors.
    """

    model: nn.Module
    inputs: Any
    targets: Tensor | None
    loss: Loss
    evaluate: Evaluate | None
    matrix: Matrix
    dtype: torch.dtype | None
    layer: str | None
    seed: int

    @property
    def convention(self) -> str:
        """The matrix, its block, and the loss."""
        where = "" if self.layer is None else f", block of layer {self.layer or 'model'}"
        return f"{WORDS[self.matrix]}{where} of {self.loss.convention}"

    def per_layer(self) -> dict[str, "Hessian"]:
        """The diagonal blocks by the module that holds the parameters, in the model's order."""
        names = dict.fromkeys(name.rpartition(".")[0] for name, _ in self.model.named_parameters())
        return {name: replace(self, layer=name) for name in names}

    def trace(self, *, estimates: int = 5, products: int = 30) -> Estimate:
        """The trace by XTrace (Epperly, Tropp and Webber, 2024).

        Args:
            estimates: independent estimates, at least two.
            products: matrix-vector products of each; an even number, at least 4. With at most this
                many parameters the trace is computed exactly, with a standard error of 0.

        Returns:
            Mean of the estimates; the standard error comes from their spread.

        Raises:
            UserError: too few estimates, a wrong number of products, or data or a model that cannot
                be measured rightly.
            NumericalError: a parameter, the data, the loss or the matrix is not finite.
        """
        require_counts(2, estimates=estimates)
        require_counts(4, products=products)
        if products % 2:
            raise UserError(f"products is {products}; it must be an even number")
        with self._opened() as (operator, _):
            if operator.shape[0] <= products:
                return Estimate(float(_dense(operator).trace()), 0.0)
            traces = []
            with bar(estimates, "trace") as progress:
                for _ in range(estimates):
                    traces.append(_estimated_trace(operator, products))
                    progress.update()
            values = torch.tensor(traces, dtype=torch.float64)
            _require_finite_hessian(values)
            return Estimate(float(values.mean()), float(values.std() / estimates**0.5))

    def top_eigenvalue(self, *, tolerance: float = 1e-4) -> float:
        """The largest eigenvalue, algebraically; tolerance as in `eigenvalues`."""
        return float(self.eigenvalues(1, tolerance=tolerance).values[0])

    def eigenvalues(
        self, count: int = 1, *, end: End = "top", tolerance: float = 1e-4, vectors: bool = False
    ) -> Eigenvalues:
        """The largest or the smallest eigenvalues, algebraically, by ARPACK.

        Args:
            count: k, how many; at most the number of parameters.
            end: "top" or "bottom".
            tolerance: accuracy of each, relative to the largest eigenvalue in size.
            vectors: whether the eigenvectors come along.

        Returns:
            The eigenvalues with their residuals.

        Raises:
            UserError: a setting is out of range, or data or a model that cannot be measured
                rightly.
            NumericalError: something is not finite, or the iterations do not converge.
        """
        require_counts(count=count)
        require_positive(tolerance=tolerance)
        if end not in {"top", "bottom"}:
            raise UserError(f"end is {end!r}; it is 'top' or 'bottom'")
        with self._opened() as (operator, names):
            if count > operator.shape[0]:
                raise UserError(f"count is {count}, but there are {operator.shape[0]} parameters")
            values, columns = end_of_spectrum(operator, count, end, tolerance, self.seed)
            off = residuals(operator, values, columns)
            parts = self._by_parameter(columns, names) if vectors else {}
            return Eigenvalues(values, off, parts, self.convention)

    def spectral_density(
        self, *, steps: int = 60, probes: int = 10, points: int = 512, width: float | None = None
    ) -> SpectralDensity:
        """The density of the eigenvalues, by stochastic Lanczos quadrature.

        Args:
            steps: matrix-vector products from each probe; more resolve finer structure.
            probes: random vectors, at least two; more make the error smaller.
            points: of the grid.
            width: standard deviation of the Gaussian for each eigenvalue, in their unit; None is
                the spectrum's range divided by steps. With less, the quadrature's own nodes become
                visible.

        Returns:
            The density with its standard error over probes.

        Raises:
            UserError: a setting is out of range, or data or a model that cannot be measured
                rightly.
            NumericalError: something is not finite.
        """
        require_counts(2, steps=steps, probes=probes, points=points)
        if width is not None:
            require_positive(width=width)
        with self._opened() as (operator, _):
            nodes, weights = quadrature(operator, steps, probes)
            return density_of(
                nodes,
                weights,
                points=points,
                width=width,
                size=operator.shape[0],
                convention=self.convention,
            )

    @contextmanager
    def _opened(self) -> Iterator[tuple[HessianLinearOperator | GGNLinearOperator, list[str]]]:
        """The matrix as an operator, after all checks, and the names of its parameters."""
        model = self.model
        if self.dtype is not None and isinstance(model, nn.Module):
            model = copy.deepcopy(model).to(self.dtype)
        with measuring(model):
            objective = Objective(
                model,
                self.inputs,
                self.targets,
                self.loss,
                self.evaluate,
                convert=self.dtype is not None,
            )
            names, parameters = self._parameters(model, objective.check())
            lone = self.matrix == "hessian" and objective.count == 1
            operator = (KeptHessian if lone else OPERATORS[self.matrix])(
                objective.outputs,
                objective,
                parameters,
                objective,
                check_deterministic=False,  # the objective has checked it
                num_data=1,
                batch_size_fn=lambda _: 1,
            )
            if self.matrix == "gauss_newton":
                self._require_outputs(objective)
            _require_symmetric(operator, model, parameters)
            torch.manual_seed(self.seed)  # of the global generator, which curvlinops draws from
            yield operator, names

    def _parameters(self, model: nn.Module, loss: Tensor) -> tuple[list[str], list[nn.Parameter]]:
        """The layer's parameters that the loss depends on, with their names."""
        chosen = {
            name: parameter
            for name, parameter in model.named_parameters()
            if self.layer is None or name.rpartition(".")[0] == self.layer
        }
        if not all(p.requires_grad for p in chosen.values()):
            raise UserError("the Hessian is by all parameters; call model.requires_grad_() first")
        used = [None] * len(chosen)
        if loss.requires_grad:
            used = torch.autograd.grad(loss, list(chosen.values()), allow_unused=True)
        kept = [name for name, gradient in zip(chosen, used, strict=True) if gradient is not None]
        if not kept:
            raise UserError(
                "the loss depends on no parameter"
                + ("" if self.layer is None else f" of layer {self.layer}")
                + ": there is no Hessian; look for no_grad, detach or argmax in forward()"
            )
        return kept, [chosen[name] for name in kept]

    def _require_outputs(self, objective: Objective) -> None:
        (batch, _) = next(iter(objective))
        outputs = objective.outputs(batch)
        share = objective(outputs, outputs)
        if not isinstance(outputs, Tensor):
            raise UserError(
                f"evaluate returns outputs that are a {type(outputs).__name__}; the Gauss-Newton "
                "matrix needs the tensor that the loss is computed from"
            )
        if torch.autograd.grad(share, outputs, allow_unused=True)[0] is None:
            raise UserError(
                "the loss that evaluate returns is not computed from the outputs that it returns, "
                "so there is no Gauss-Newton matrix; return the very tensor"
            )

    def _by_parameter(self, columns: Tensor, names: list[str]) -> dict[str, Tensor]:
        shapes = {name: p.shape for name, p in self.model.named_parameters() if name in names}
        parts = columns.T.split([shapes[name].numel() for name in names], dim=1)
        return {n: part.reshape(-1, *shapes[n]) for n, part in zip(names, parts, strict=True)}


def hessian(
    model: nn.Module,
    inputs: Shaped[Tensor, "n ..."] | Iterable,
    targets: Shaped[Tensor, "n ..."] | None = None,
    *,
    loss: str | LossFunction = "squared_error",
    matrix: Matrix = "hessian",
    evaluate: Evaluate | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> Hessian:
    """The Hessian of a loss by a model's parameters, or its Gauss-Newton matrix.

    Nothing is computed, and no data are read, until one of its methods is called.

    Args:
        model: maps inputs to outputs, in evaluation mode if that matters to it.
        inputs: (n, ...), with targets; or batches that can be read again and again, such as a
            DataLoader or a list: pairs (inputs, targets), or anything that `evaluate` takes.
        targets: (n, ...); None for batches.
        loss: "squared_error" (½ mean over samples of ‖f(x) − y‖²), "mse" (PyTorch's mean over
            samples and outputs), "cross_entropy", or a function of outputs and targets, the mean
            over samples.
        matrix: "hessian" or "gauss_newton".
        evaluate: maps the model and a batch to (outputs, loss), the loss a mean over
            `len(outputs)` terms, or to (outputs, loss, count) with another number of terms, such as
            tokens. It takes the place of `loss`.
        dtype: torch.float64, or float32 for a model in half precision: a copy of the model is
            measured in this type, and floating-point data are converted; None converts nothing.
        seed: of the random vectors that estimates draw.

    Returns:
        An object with trace, eigenvalues and spectral density; `convention` states the loss.

    Raises:
        UserError: an argument is wrong.
    """
    if matrix not in OPERATORS:
        raise UserError(f"matrix is {matrix!r}; it is one of {', '.join(OPERATORS)}")
    if dtype is not None and dtype not in TYPES:
        raise UserError(f"dtype is {dtype}; make it float32 or float64")
    found = named_loss(loss)
    if evaluate is not None:
        name = getattr(evaluate, "__name__", type(evaluate).__name__)
        found = Loss(found.function, f"the mean of the losses that {name} returns, all parameters")
    return Hessian(model, inputs, targets, found, evaluate, matrix, dtype, None, seed)
