"""Shapes and types of arguments are checked in tests, and only there."""

import subprocess
import sys

import jaxtyping
import pytest
import torch

from checkout import ROOT
from flatness.measures.bounds import Stretch
from flatness.measures.estimates import mean
from flatness.measures.measure import measure
from measures.small_networks import mlp


def test_another_shape_or_type_is_found():
    with pytest.raises(jaxtyping.TypeCheckError):
        mean(torch.ones(3, 2))
    with pytest.raises(jaxtyping.TypeCheckError):
        mean(torch.ones(3, dtype=torch.int64))
    with pytest.raises(jaxtyping.TypeCheckError):
        measure(mlp(), torch.ones(4, 4, dtype=torch.float64), torch.ones(3, 3, dtype=torch.float64))


def test_two_arguments_that_share_a_dimension_must_agree():
    Stretch("", torch.ones(3, 2), torch.ones(3))
    with pytest.raises(jaxtyping.TypeCheckError):
        Stretch("", torch.ones(3, 2), torch.ones(4))


def test_users_pay_nothing_for_it():
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'workflow')!r}); import flatness; "
    code += "flatness.measure; sys.exit('beartype' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
