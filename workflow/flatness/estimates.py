"""Estimates with standard errors: the jackknife for smooth functions of sample means."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error.

    Attributes:
        value: the estimate.
        standard_error: same unit; NaN where one sample, or an infinite value, leaves none.
    """

    value: float
    standard_error: float


UNDEFINED = Estimate(math.nan, math.nan)


def jackknife(function: Callable[..., Tensor], *columns: Tensor) -> Estimate:
    """The value of a smooth function of means over samples, and its jackknife standard error.

        SE² = (n−1)/n · Σ_i (T_(i) − mean T_(·))²,   T_(i) the value without sample i

    To first order this is the delta method's standard error; for a plain mean it is exactly s/√n.

    Args:
        function: takes the means of the columns, elementwise, of shape () and of shape (n,).
        *columns: one value a sample, each (n,).

    Returns:
        The estimate; its standard error is NaN at n = 1.
    """
    table = torch.stack([column.double() for column in columns])
    value, without = function(*table.mean(1)), function(*_means_without(table))
    n = len(without)
    variance = (n - 1) / n * (without - without.mean()).square().sum()
    return Estimate(float(value), float(variance.sqrt()) if n > 1 else math.nan)


def mean(column: Tensor) -> Estimate:
    """The mean over samples, (n,), and its standard error s/√n; NaN at n = 1."""
    column, n = column.double(), len(column)
    error = float(column.std() / n**0.5) if n > 1 else math.nan
    return Estimate(float(column.mean()), error)


def log_mean_exp(column: Tensor) -> Estimate:
    """The log of the mean of exponentials of (n,) logs; −inf where all of them are."""
    column = column.double()
    top = column.max()
    if not torch.isfinite(top):
        return Estimate(float(top), math.nan)
    return jackknife(lambda m: top + m.log(), (column - top).exp())


def _means_without(table: Tensor) -> Tensor:
    """Means of rows without each entry; sums from both ends, since total − x_i may cancel."""
    zero = table.new_zeros(len(table), 1)
    before = torch.cat([zero, table[:, :-1].cumsum(1)], dim=1)
    after = torch.cat([table[:, 1:].flip(1).cumsum(1).flip(1), zero], dim=1)
    return (before + after) / (table.shape[1] - 1)
