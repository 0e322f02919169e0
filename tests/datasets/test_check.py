"""What a module of a data set must return."""

import pytest
import torch

from flatness.datasets.check import check_tensors
from flatness.datasets.normalised import Dataset
from flatness.errors import UserError


def table():
    return {"inputs": torch.rand(9, 3).double(), "targets": torch.rand(9, 1).double()}


def images():
    pixels = torch.zeros(6, 1, 4, 4, dtype=torch.uint8)
    labels = torch.zeros(6, dtype=torch.int64)
    return {
        "train_inputs": pixels, "train_targets": labels,
        "test_inputs": pixels[:2], "test_targets": labels[:2],
    }  # fmt: skip


MISTAKES = {
    "a row of targets": ("table", table, "targets", lambda t: t[:, 0], r"of shape \(n, 1\)"),
    "transposed": ("table", table, "inputs", lambda t: t.T, "targets is .* with n = 3, d = 9"),
    "not finite": ("table", table, "inputs", lambda t: t / 0, "not finite"),
    "whole numbers": ("table", table, "inputs", lambda t: t.long(), "float32 or float64"),
    "an array": ("table", table, "inputs", lambda t: t.numpy(), "is a ndarray; make it a tensor"),
    "no channel": ("images", images, "train_inputs", lambda t: t[:, 0], r"\(n, C, H, W\)"),
    "real pixels": ("images", images, "test_inputs", lambda t: t / 255, "uint8"),
    "another size": ("images", images, "test_inputs", lambda t: t[..., 1:], "W = 4"),
    "fewer labels": ("images", images, "train_targets", lambda t: t[1:], "n = 6"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_tensor_that_would_be_read_wrongly_is_refused(name):
    kind, make, key, change, reason = MISTAKES[name]
    check_tensors(Dataset("mine", True, make()), kind)
    wrong = make() | {key: change(make()[key])}
    with pytest.raises(UserError, match=reason):
        check_tensors(Dataset("mine", True, wrong), kind)


def test_missing_tensors_are_named():
    tensors = table()
    tensors["labels"] = tensors.pop("targets")
    with pytest.raises(UserError, match="tensors inputs, labels; there must be inputs, targets"):
        check_tensors(Dataset("mine", True, tensors), "table")
