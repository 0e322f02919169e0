"""The command on a checkpoint and a data set written here."""

import math

import pytest
import torch

from flatness.__main__ import main
from flatness.data import Dataset, save
from flatness.measure_checkpoint import CheckpointRow
from flatness.measures import QUANTITIES, measure
from flatness.models import build
from flatness.tables import read_table
from flatness.tensor_files import save_tensors


def images(*shape):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    return pixels, torch.randint(10, shape[:1], generator=generator)


@pytest.fixture
def files(tmp_path):
    tensors = {}
    for part, count in (("train", 12), ("test", 5)):
        tensors[f"{part}_inputs"], tensors[f"{part}_targets"] = images(count, 3, 32, 32)
    save(tmp_path / "data.safetensors", Dataset("cifar10", False, tensors))
    weights = build("lenet5", seed=2).state_dict()
    save_tensors(tmp_path / "weights.safetensors", weights, {})
    many = {f"seed{s}/step9/{k}": v + s for s in (0, 1) for k, v in weights.items()}
    save_tensors(tmp_path / "many.safetensors", many, {})
    torch.save(weights, tmp_path / "weights.pt")
    return tmp_path


def command(folder, weights="weights.safetensors", model="lenet5", **options):
    arguments = ["measure", "--model", model, "--weights", str(folder / weights)]
    arguments += ["--data", str(folder / "data.safetensors")]
    for name, value in {"output": folder / "row.csv", **options}.items():
        arguments += [f"--{name}", str(value)]
    return main(arguments)


def test_prints_a_table_and_writes_a_row(files, capsys):
    assert command(files, samples=12) == 0
    printed = capsys.readouterr().out
    assert all(f" {name} " in printed for name in QUANTITIES)
    assert "theorems not defined" in printed
    row = read_table(files / "row.csv", CheckpointRow).iloc[0]
    model = build("lenet5", seed=2).double()
    inputs = images(12, 3, 32, 32)[0].double() / 255
    expected = measure(model, inputs)
    for name in set(QUANTITIES) - {"adaptive_sharpness_sampled"}:
        assert row[name] == pytest.approx(expected[name].value, rel=1e-9, nan_ok=True), name
        error = expected[name].standard_error
        assert row[f"{name}_se"] == pytest.approx(error, rel=1e-6, nan_ok=True), name
    assert math.isfinite(row["adaptive_sharpness_sampled"])
    assert (row["samples"], row["dataset"], row["demo"]) == (12, "cifar10", False)


def test_reads_one_model_of_many_and_test_images(files):
    assert command(files, "many.safetensors", prefix="seed1/step9/", part="test", samples=4) == 0
    row = read_table(files / "row.csv", CheckpointRow).iloc[0]
    assert (row["prefix"], row["part"], row["samples"]) == ("seed1/step9/", "test", 4)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"samples": 13}, 2, "13 asked for"),
        ({"part": "validation"}, 2, "has no validation images"),
        ({"model": "resnet"}, 2, "no 'resnet'"),
        ({"model": "vgg11"}, 3, "check --model and --prefix"),
        ({"prefix": "seed7/"}, 3, "weight seed7/conv1.bias is missing in the file"),
        ({"weights": "nowhere.safetensors"}, 3, "no such file; --weights names a file that saf"),
        ({"weights": "weights.pt"}, 3, "weights.pt: damaged or not a safetensors file; --weights"),
    ],
)
def test_mistakes_end_in_one_line_and_no_row(files, capsys, options, code, message):
    assert command(files, **{"samples": 4} | options) == code
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not (files / "row.csv").exists()


def test_images_of_another_shape_are_refused(files, capsys):
    save_tensors(files / "mlp.safetensors", build("mlp", seed=0).state_dict(), {})
    assert command(files, "mlp.safetensors", model="mlp", samples=4) == 2
    assert "mlp does not take the images" in capsys.readouterr().err
