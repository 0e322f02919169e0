import math

import pytest
import torch
from torch import nn

from flatness.__main__ import main
from flatness.measures.ascent import draw_batches
from flatness.measures.worst_case import strong_worst_case_sharpness
from flatness.records.tables import provenance, read_table, write_table
from flatness.records.tensors import save_tensors
from flatness.studies.chen.images import build_network, load_images
from flatness.studies.chen.rows import TrainedCheckpoint
from flatness.studies.cross.config import FamilyMeasurement
from flatness.studies.cross.measure_chen import squared_error
from flatness.studies.cross.rows import CrossMeasurement
from studies.chen.small_study import small_training, write_images

DIVERGED = "training loss not finite by step 30"


def test_the_loss_is_half_the_sum_over_outputs_mean_over_images():
    outputs, targets = torch.randn(2, 7, 10, dtype=torch.float64)
    literal = sum(0.5 * (f - y).dot(f - y) for f, y in zip(outputs, targets, strict=True)) / 7
    assert torch.allclose(squared_error(outputs, targets), literal, rtol=1e-12)


def test_strong_sharpness_is_first_order_for_small_rho():
    """As ρ → 0 it tends to ρ Σ|w||∂L/∂w|, and is never above it by more than the second order."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    data = torch.randn(20, 4).double(), torch.randn(20, 3).double()
    batches = draw_batches(20, 3, 8, [torch.Generator().manual_seed(0)])[0]
    slopes = []
    for batch in batches:
        loss = squared_error(model(data[0][batch]), data[1][batch])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        pairs = zip(model.parameters(), gradients, strict=True)
        slopes.append(sum((w.detach() * g).abs().sum() for w, g in pairs))
    for rho, tolerance in ((1e-4, 1e-3), (1e-6, 1e-5)):
        found = strong_worst_case_sharpness(
            model, squared_error, data, rho=rho, restarts=3, batch_size=8
        )
        first_order = rho * float(torch.stack(slopes).mean())
        assert found.value == pytest.approx(first_order, rel=tolerance)


@pytest.fixture
def block(tmp_path):
    """Three checkpoints of an MLP: one sound, one diverged, one whose loss overflows."""
    training = small_training(activation="relu", steps=(60,))
    write_images(tmp_path / "data.safetensors")
    weights = {}
    for seed in (0, 2):
        for name, values in build_network(training, seed).named_parameters():
            weights[f"seed{seed}/step60/{name}"] = values * (1e20 if seed == 2 else 1)
    save_tensors(tmp_path / "final.safetensors", weights, {})
    rows = [
        TrainedCheckpoint(
            family="mlp_relu", setting="lr0.1_batch8", dataset="digits", demo=True, train_size=40,
            seed=seed, step=60, train_loss=0.1, train_accuracy=1, test_loss=0.2, test_accuracy=1,
            diverged=seed == 1, reason=DIVERGED if seed == 1 else "", **provenance("abc"),
        )
        for seed in range(3)
    ]  # fmt: skip
    write_table(tmp_path / "training.csv", rows)
    return tmp_path, FamilyMeasurement(training=training, rho=0.01, batch_size=16, restarts=2)


def test_every_model_of_a_block_has_a_row(block):
    folder, experiment = block
    arguments = ["measure-cross-chen", "--experiment", experiment.model_dump_json()]
    arguments += ["--data", str(folder / "data.safetensors")]
    arguments += ["--final", str(folder / "final.safetensors")]
    arguments += ["--training", str(folder / "training.csv"), "--output", str(folder / "m.csv")]
    assert main(arguments) == 0
    rows = read_table(folder / "m.csv", CrossMeasurement)
    assert rows["status"].tolist() == ["used", "diverged", "not measured"]
    assert rows["reason"][1] == DIVERGED
    assert "not finite near the weights" in rows["reason"][2]
    assert rows["value"][1:].isna().all()
    images = load_images(folder / "data.safetensors", experiment.training).train
    expected = strong_worst_case_sharpness(
        build_network(experiment.training, 0), squared_error, (images.inputs, images.targets),
        rho=0.01, batch_size=16, restarts=2,
    )  # fmt: skip
    assert rows["value"][0] == pytest.approx(expected.value, rel=1e-6)
    assert rows["standard_error"][0] == pytest.approx(expected.standard_error, rel=1e-6)
    assert expected.value > 0 and math.isfinite(expected.standard_error)
