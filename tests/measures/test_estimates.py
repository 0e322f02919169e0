import math

import numpy as np
import pytest
import torch

from flatness.measures.estimates import jackknife, log_mean_exp, mean


def literal_jackknife(function, *columns):
    n = len(columns[0])
    values = np.array(
        [function(*(np.delete(c, i).mean() for c in columns)) for i in range(n)], dtype=float
    )
    return math.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum())


def test_jackknife_leaves_each_sample_out_once():
    rng = np.random.default_rng(0)
    a, b = rng.exponential(size=12), rng.exponential(size=12)
    found = jackknife(lambda x, y: np.sqrt(x * y), torch.tensor(a), torch.tensor(b))
    assert found.value == pytest.approx(math.sqrt(a.mean() * b.mean()), rel=1e-14)
    expected = literal_jackknife(lambda x, y: math.sqrt(x * y), a, b)
    assert found.standard_error == pytest.approx(expected, rel=1e-12)


def test_error_of_a_mean_is_the_jackknifes():
    column = torch.tensor([1.0, 4.0, 2.0, 8.0], dtype=torch.float64)
    assert mean(column).standard_error == pytest.approx(
        jackknife(lambda m: m, column).standard_error
    )
    assert mean(column).standard_error == pytest.approx(float(column.std() / 2))


def test_one_sample_has_no_standard_error():
    column = torch.tensor([2.0])
    for estimate in (mean(column), log_mean_exp(column), jackknife(lambda m: m, column)):
        assert estimate.value == pytest.approx(2.0)
        assert math.isnan(estimate.standard_error)


def test_log_mean_exp_does_not_overflow_or_cancel():
    logs = torch.tensor([300.0, 0.0, -5.0], dtype=torch.float64)
    found = log_mean_exp(logs)
    assert found.value == pytest.approx(300 - math.log(3), rel=1e-14)
    without = np.array([math.log((1 + math.exp(-5)) / 2), *[300 - math.log(2)] * 2])
    expected = math.sqrt(2 / 3 * ((without - without.mean()) ** 2).sum())
    assert found.standard_error == pytest.approx(expected, rel=1e-9)


def test_log_mean_exp_of_no_volume_is_minus_infinity():
    assert log_mean_exp(torch.full((3,), -torch.inf)).value == -math.inf
    mixed = log_mean_exp(torch.tensor([-torch.inf, 0.0], dtype=torch.float64))
    assert mixed.value == pytest.approx(math.log(0.5))
