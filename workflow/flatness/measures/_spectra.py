"""Singular values of many small Jacobians."""

from dataclasses import dataclass

import torch
from torch import Tensor

from flatness.errors import NumericalError


@dataclass(frozen=True)
class Spectrum:
    """Singular values of c Jacobians (N, d), and what follows from them; float64.

    Attributes:
        values: σ, descending, (c, min(N, d)).
        rank: number of σ > max(N, d)·eps·σ₁, eps of the type they were computed in, (c,).
        log_volume: log sqrt(det(J Jᵀ)); −inf where the rank is below N, (c,).
    """

    values: Tensor
    rank: Tensor
    log_volume: Tensor


def spectrum(jacobian: Tensor) -> Spectrum:
    """Singular values by QR, and SVD of the triangular factor.

    The Gram matrix J Jᵀ is not used: it squares them, and in float32 rounding hides small ones.

    Args:
        jacobian: (N, c, d).

    Returns:
        The spectrum of each sample's Jacobian.

    Raises:
        NumericalError: the Jacobian is not finite.
    """
    outputs, _, width = jacobian.shape
    triangular = torch.linalg.qr(jacobian.permute(1, 2, 0), mode="r")[1]
    if not torch.isfinite(triangular).all():
        raise NumericalError(
            f"the Jacobian overflows {jacobian.dtype}; scale the weights down, or use float64"
        )
    values = torch.linalg.svdvals(triangular).double()
    negligible = max(outputs, width) * torch.finfo(jacobian.dtype).eps * values[:, :1]
    rank = (values > negligible).sum(1)
    return Spectrum(values, rank, torch.where(rank == outputs, values.log().sum(1), -torch.inf))


def features(rows: Tensor) -> Tensor:
    """Flattens images in their order in memory: channels last.

    The order of features does not change singular values, and this order needs no copy.

    Args:
        rows: (N, c, ...).

    Returns:
        (N, c, d).
    """
    return (rows.movedim(2, -1) if rows.dim() == 5 else rows).flatten(2)
