"""The share of a pool's variance of sharpness between models, and τ corrected for the rest.

A model's sharpness is a mean over restarts, which draw their own batches. This noise affects the
ranks in a pool and pulls τ towards zero. The correction is approximate: it assumes a binormal pair
with correlation r = sin(πτ/2), and divides r by the root of the reliability (Spearman's attenuation
formula).
"""

import math

import numpy as np
import pandas as pd


def reliability(values: pd.Series, errors: pd.Series) -> float:
    """Share of the variance between models that is not the variance of their restarts' means.

    Args:
        values: sharpness, one per model.
        errors: its standard error over restarts.

    Returns:
        At least 0; NaN if an error is missing, for fewer than 2 models and for equal values.
    """
    variance = float(values.var())
    if not variance > 0:
        return math.nan
    return float(np.maximum(1 - errors.pow(2).mean(skipna=False) / variance, 0.0))


def corrected_tau(tau: float, reliability: float) -> float:
    """τ as it would be without the noise of restarts, approximately.

    Args:
        tau: of the noisy sharpness.
        reliability: of it.

    Returns:
        2/π arcsin(sin(πτ/2) / √reliability), at most 1 in size; NaN where the reliability is 0.
    """
    if not reliability > 0:
        return math.nan
    r = math.sin(math.pi * tau / 2) / math.sqrt(reliability)
    return 2 / math.pi * math.asin(min(max(r, -1.0), 1.0))
