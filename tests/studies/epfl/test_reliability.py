"""Reliability of a pool's sharpness, and τ corrected for it."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from flatness.studies.epfl.reliability import corrected_tau, reliability


def test_the_reliability_is_the_share_of_the_variance_between_models():
    rng = np.random.default_rng(0)
    true = rng.normal(1, 0.3, size=20_000)
    errors = pd.Series(rng.uniform(0.1, 0.2, size=20_000))
    noisy = pd.Series(true + errors * rng.normal(size=20_000))
    share = reliability(noisy, errors)
    assert share == pytest.approx(true.var() / noisy.var(), abs=0.01)
    assert reliability(noisy, errors * 100) == 0
    assert math.isnan(reliability(noisy, errors.where(errors.index != 3)))
    assert math.isnan(reliability(pd.Series([1.0, 1.0]), pd.Series([0.1, 0.1])))


def test_the_corrected_tau_is_that_without_the_noise():
    rng = np.random.default_rng(0)
    true, other = rng.multivariate_normal([0, 0], [[1, -0.6], [-0.6, 1]], size=20_000).T
    noisy = true + 0.8 * rng.normal(size=20_000)
    without, found = (stats.kendalltau(x, other).statistic for x in (true, noisy))
    share = reliability(pd.Series(noisy), pd.Series(np.full(20_000, 0.8)))
    assert abs(found) < 0.85 * abs(without)
    assert corrected_tau(found, share) == pytest.approx(without, abs=0.02)


def test_a_correction_never_exceeds_one_and_needs_some_reliability():
    assert corrected_tau(0.9, 0.3) == 1
    assert corrected_tau(-0.9, 0.3) == -1
    assert corrected_tau(0.4, 1.0) == pytest.approx(0.4)
    assert math.isnan(corrected_tau(0.4, 0.0))
    assert math.isnan(corrected_tau(0.4, math.nan))
