"""A Hessian as a linear operator: its products, trace, entries and symmetry."""

from collections.abc import Sequence
from typing import Any

import torch
from curvlinops import HessianLinearOperator, hutchpp_trace, xtrace
from curvlinops._torch_base import CurvatureLinearOperator
from torch import Tensor, nn

from flatness.errors import NumericalError

#: Largest |⟨u, Hv⟩ − ⟨v, Hu⟩| that is put down to rounding, relative to ‖u‖‖Hv‖ or ‖v‖‖Hu‖.
ASYMMETRY = {torch.float32: 1e-3, torch.float64: 1e-9}


class KeptHessian(HessianLinearOperator):
    """curvlinops' Hessian on one batch, keeping the gradient's graph from product to product.

    A product then takes a third of the time (LeNet-5, n = 200: 47 ms for 135), and the graph takes
    memory as long as the operator lives.
    """

    def _matmat_batch(self, X: Any, y: Any, M: list[Tensor]) -> list[Tensor]:
        if not hasattr(self, "_gradient"):
            loss = self._loss_func(self._model_func(X), y)
            found = torch.autograd.grad(loss, self._params, create_graph=True)
            self._gradient = [(i, g) for i, g in enumerate(found) if g.requires_grad]
        products = [
            self._product(vectors) for vectors in zip(*(m.unbind(-1) for m in M), strict=True)
        ]
        return [torch.stack(parts, dim=-1) for parts in zip(*products, strict=True)]

    def _product(self, vectors: Sequence[Tensor]) -> Sequence[Tensor]:
        if not self._gradient:  # it is constant
            return [torch.zeros_like(v) for v in vectors]
        return torch.autograd.grad(
            [g for _, g in self._gradient],
            self._params,
            [vectors[i] for i, _ in self._gradient],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )


def _estimated_trace(operator: CurvatureLinearOperator, products: int) -> float:
    try:
        return float(xtrace(operator, products))
    except torch.linalg.LinAlgError:
        # the matrix of products is singular, for example if the rank is below half their number
        return float(hutchpp_trace(operator, products - products % 3))


def _dense(operator: CurvatureLinearOperator) -> Tensor:
    """The Hessian in full, float64."""
    columns = torch.eye(operator.shape[0], dtype=operator.dtype, device=operator.device)
    full = (operator @ columns).double()
    _require_finite_hessian(full)
    return full


def _require_finite_hessian(values: Tensor) -> None:
    if not torch.isfinite(values).all():
        raise NumericalError("the Hessian is not finite; check the inputs, targets and weights")


def _require_symmetric(
    operator: CurvatureLinearOperator, model: nn.Module, parameters: list[nn.Parameter]
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
        "the Hessian is not symmetric: PyTorch's second derivative is wrong or rounding dominates "
        f"it, by parameter {wrong[0] if wrong else 'unknown: each block is symmetric'}; use "
        "float64, or write its layer without weight norm, spectral norm or code of its own"
    )


def _asymmetric(operator: CurvatureLinearOperator, u: list[Tensor], v: list[Tensor]) -> bool:
    images = operator @ u, operator @ v
    a, b, Ha, Hb = (torch.cat([t.flatten() for t in ts]).double() for ts in (u, v, *images))
    scale = torch.maximum(a.norm() * Hb.norm(), b.norm() * Ha.norm())
    return bool((a @ Hb - b @ Ha).abs() > ASYMMETRY[operator.dtype] * scale)


def _only(parts: list[Tensor], index: int) -> list[Tensor]:
    """A direction along one parameter."""
    return [t if at == index else torch.zeros_like(t) for at, t in enumerate(parts)]
