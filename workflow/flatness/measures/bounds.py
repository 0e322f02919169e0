"""Upper bounds on compression by sharpness.

All bounds follow from one inequality. A layer y = W x + b gets the gradient δ at y; the network's
Jacobian at x through this layer is J = Wᵀδ, so `||J||_F ≤ ||W||_2 ||δ||_F`, and the gradient by its
parameters is `δ Uᵀ`, U the patches of x (see `flatness.measures._layers`), so `||δ||_F ≤ ||∇_W
f||_F / σ_P(U)`. Hence

    ||J_l||_F ≤ r_l ||∇_{W_l} f||_F        with the stretch  r_l = ||W_l||_2 / σ_P(U_l)

For a linear layer σ_P(U) = ||x||, the published form. If the gradient by the bias is included, U
has an additional row of ones: sqrt(1 + ||x||²), finite at x = 0 (the `_bias` forms). Both are
theorems, also for convolutions, but only if there are no more positions P than rows of U. Otherwise
a kernel's gradient can cancel while J does not, so the forms are not defined: NaN. A zero input
makes the plain form vacuous: +inf.

The released code takes `||K||_F sqrt(P) / sqrt(||x||² + 1e-4)` for a convolution: a heuristic that
can be violated (the `_released` forms). For a linear layer of a convolutional network it takes the
Frobenius norm too, `||W||_F / ||x||`, which is looser than the published form. For a network
without convolutions the `_released` forms are the published ones.

From the stretch, with means over the samples i (S counts all parameters, so mean_i Σ_l g_l² ≤ S):

    B = mean r g                C = sqrt(mean r²) sqrt(mean g²)    D = sqrt(mean r²) sqrt(S)
    NMLS ≤ sqrt(mean Σ_l r_l²) sqrt(S)                                       (Cauchy-Schwarz)
    LVR  ≤ N^(-N/2) mean ||J||_F^N                                    (means of singular values)
         ≤ N^(-N/2)/n sqrt(Σ_i r_i^2N) (nS)^(N/2)      (Cauchy-Schwarz; Σ g^2N ≤ (Σ g²)^N)
    NVR  ≤ N^(-N/2)/n sqrt(Σ_l Σ_i r_l^2N) (nS)^(N/2)                     (the same, for each layer)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from flatness.measures._layers import Layer
from flatness.measures._samples import Samples
from flatness.measures.estimates import Estimate, jackknife, log_mean_exp, mean

#: What the released code adds to the squared norm of a convolution's input.
RELEASED_EPSILON = 1e-4


@dataclass(frozen=True)
class Stretch:
    """The parts of one kind of bound.

    Attributes:
        suffix: of the bounds' names: "", "_bias" or "_released".
        ratios: r, (n, L); +inf where vacuous, NaN where not defined.
        gradient: g of the first layer, the gradient that belongs to its ratio, (n,).
    """

    suffix: str
    ratios: Float[Tensor, "n L"]
    gradient: Float[Tensor, " n"]


def stretches(
    samples: Samples, layers: Sequence[Layer], norms: Float[Tensor, " L"]
) -> list[Stretch]:
    """The three kinds of stretch.

    Args:
        samples: measured, of at least one layer.
        layers: L of them.
        norms: ||W_l||_2, (L,); NaN where it is not needed.

    Returns:
        Published, with bias, released.
    """
    scale, shift = norms.clone(), torch.zeros_like(norms)
    convolutions = [isinstance(layer.module, nn.Conv2d) for layer in layers]
    if any(convolutions):
        frobenius = [layer.weight.double().norm() * math.sqrt(layer.positions) for layer in layers]
        scale.copy_(torch.stack(frobenius))
        shift[torch.tensor(convolutions)] = RELEASED_EPSILON
    weight = samples.layer_weight_gradient[:, 0]
    both = weight + samples.layer_bias_gradient[:, 0]
    inputs = (samples.layer_input_squared + shift).sqrt()
    return [
        Stretch("", _ratios(norms, samples.layer_smallest), weight.sqrt()),
        Stretch("_bias", _ratios(norms, samples.layer_smallest_bias), both.sqrt()),
        Stretch("_released", _ratios(scale, inputs), weight.sqrt()),
    ]


def _ratios(norms: Tensor, inputs: Tensor) -> Tensor:
    """Norms over sizes of inputs, (n, L); +inf if an input is zero, even with zero weights."""
    return torch.where(inputs == 0, torch.inf, norms / inputs)


def bounds_by_input(
    samples: Samples, stretch: Stretch, outputs: int
) -> dict[str, Callable[[], Estimate]]:
    """Bounds on MLS and LVR, from the gradient by the first layer, whose input is x.

    Args:
        samples: measured.
        stretch: the kind of bound.
        outputs: N.

    Returns:
        Name to estimate, not yet computed; NaN where x is not the first layer's input, or the
        stretch is not defined.
    """
    first = stretch.ratios[:, 0].clone()
    if not samples.first_is_input.all():
        first.fill_(torch.nan)
    squared, gradient, sharpness = first.square(), stretch.gradient, samples.squared_gradient
    suffix = stretch.suffix
    return {
        f"bound_b{suffix}": lambda: _unless_vacuous(first, lambda r: mean(r * gradient)),
        f"bound_c{suffix}": lambda: _root_of_product(squared, gradient.square()),
        f"bound_d{suffix}": lambda: _root_of_product(squared, sharpness),
        f"log_lvr_bound{suffix}": lambda: _log_volume_bound(first.unsqueeze(1), sharpness, outputs),
    }


def bounds_by_layers(
    samples: Samples, stretch: Stretch, outputs: int, *, complete: bool
) -> dict[str, Callable[[], Estimate]]:
    """Bounds on NMLS and NVR, from the gradients by all layers.

    Args:
        samples: measured.
        stretch: the kind of bound.
        outputs: N.
        complete: whether the layers are all linear and convolutional layers of the network.

    Returns:
        Name to estimate, not yet computed; NaN where the layers are incomplete, or a stretch is not
        defined.
    """
    ratios = stretch.ratios if complete else torch.full_like(stretch.ratios, torch.nan)
    sharpness, suffix = samples.squared_gradient, stretch.suffix
    return {
        f"nmls_bound{suffix}": lambda: _root_of_product(ratios.square().sum(1), sharpness),
        f"log_nvr_bound{suffix}": lambda: _log_volume_bound(ratios, sharpness, outputs),
    }


def volume_bound_by_jacobian(jacobian_squared: Float[Tensor, " n"], outputs: int) -> Estimate:
    """log(N^(-N/2) mean_i ||J_i||_F^N), the middle form of the bound on LVR.

    The geometric mean of the N squared singular values is at most their arithmetic mean.

    Args:
        jacobian_squared: ||J_i||_F², (n,).
        outputs: N.

    Returns:
        The estimate.
    """
    return log_mean_exp(outputs / 2 * (jacobian_squared.log() - math.log(outputs)))


def _root_of_product(ratio: Tensor, gradient: Tensor) -> Estimate:
    """sqrt(mean(ratio) mean(gradient)); both arguments are squared already."""
    return _unless_vacuous(ratio, lambda r: jackknife(lambda m, g: np.sqrt(m * g), r, gradient))


def _log_volume_bound(ratios: Tensor, sharpness: Tensor, outputs: int) -> Estimate:
    """Log of N^(-N/2)/n · sqrt(Σ_l Σ_i r_l^2N) · (nS)^(N/2), from r (n, L)."""
    samples = len(ratios)
    powers = torch.logsumexp(2 * outputs * ratios.log(), dim=1)
    constant = (outputs - 1) / 2 * math.log(samples) - outputs / 2 * math.log(outputs)

    def estimate(finite: Tensor) -> Estimate:
        top = float(finite.max())
        if top == -math.inf:  # with zero weights the volume is zero
            return Estimate(-math.inf, math.nan)
        return jackknife(
            lambda m, s: constant + (top + np.log(m) + outputs * np.log(s)) / 2,
            (finite - top).exp(),
            sharpness,
        )

    return _unless_vacuous(powers, estimate)


def _unless_vacuous(ratio: Tensor, estimate: Callable[[Tensor], Estimate]) -> Estimate:
    """+inf where a zero input leaves no bound; infinity times a zero gradient must not be NaN."""
    if torch.isposinf(ratio).any():
        return Estimate(math.inf, math.nan)
    return estimate(ratio)
