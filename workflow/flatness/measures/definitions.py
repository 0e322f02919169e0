"""One function for every quantity that is not a bound: from values of samples to an estimate.

f is the network with N outputs, x one of n samples, θ or w all parameters, J = ∂f/∂x, x^l the input
of layer l, J_l = ∂f/∂x^l through this layer, and C = J Jᵀ. `flatness.measures._samples` computes
the values of single samples; bounds are in `flatness.measures.bounds`.
"""

import torch

from flatness.measures._samples import Samples
from flatness.measures.estimates import Estimate, jackknife, log_mean_exp, mean


def sharpness(samples: Samples) -> Estimate:
    """S = 1/n Σ ||∂f/∂θ||_F², Tr ∇²L where the model interpolates L = 1/(2n) Σ ||f − y||²."""
    return mean(samples.squared_gradient)


def average_case_sharpness(samples: Samples) -> Estimate:
    """½ Σ_p w_p² H_pp, with the Gauss–Newton form of H."""
    return mean((samples.layer_adaptive.sum(1) + samples.others_adaptive) / 2)


def relative_flatness(samples: Samples, squared_weight: float) -> Estimate:
    """κ = ||W||_F² · 1/n Σ ||x^L||² of the last layer, a linear one.

    Args:
        samples: the values of each sample.
        squared_weight: ||W||_F² of that layer.

    Returns:
        The estimate.
    """
    return jackknife(lambda m: squared_weight * m, samples.layer_input_squared[:, -1])


def mls(samples: Samples) -> Estimate:
    """MLS = 1/n Σ ||J||₂, the maximum local sensitivity."""
    return mean(samples.mls)


def nmls(samples: Samples) -> Estimate:
    """NMLS = Σ_l 1/n Σ ||J_l||₂, over linear and convolutional layers."""
    return mean(samples.layer_mls.sum(1))


def normalized_mls(samples: Samples) -> Estimate:
    """1/n Σ ||x||² ||J||₂²."""
    return mean(samples.input_squared * samples.mls.square())


def input_invariant_mls(samples: Samples) -> Estimate:
    """1/n Σ ||J x||² / numel(x), as released."""
    return mean(samples.invariant)


def jacobian_norm_squared(samples: Samples) -> Estimate:
    """G = 1/n Σ ||J||_F²."""
    return mean(samples.jacobian_squared)


def log_lvr(samples: Samples) -> Estimate:
    """Log 1/n Σ sqrt(det C), the local volumetric ratio."""
    return log_mean_exp(samples.log_volume)


def log_nvr(samples: Samples) -> Estimate:
    """Log Σ_l 1/n Σ sqrt(det(J_l J_lᵀ)), the network volumetric ratio."""
    return log_mean_exp(torch.logsumexp(samples.layer_log_volume, dim=1))


def log_volume_top3(samples: Samples) -> Estimate:
    """1/n Σ log(σ₁σ₂σ₃) of J's singular values, as released."""
    return mean(samples.log_volume_top3)


def local_dimensionality(samples: Samples) -> Estimate:
    """D_PR = 1/n Σ Tr(C)² / Tr(C²), the participation ratio."""
    return mean(samples.local_dimensionality)


def rank(samples: Samples) -> Estimate:
    """1/n Σ rank J."""
    return mean(samples.rank)


#: Quantities that every network has, and quantities that sum over all of its layers.
OF_ALL = (
    *(sharpness, average_case_sharpness, mls, normalized_mls, input_invariant_mls),
    *(jacobian_norm_squared, log_lvr, log_volume_top3, local_dimensionality, rank),
)
OF_LAYERS = (nmls, log_nvr)
