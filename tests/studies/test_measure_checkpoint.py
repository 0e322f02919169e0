"""The command on a checkpoint and a data set written here."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from flatness.__main__ import main
from flatness.datasets.normalised import Dataset, load, save
from flatness.measures.measure import QUANTITIES, measure
from flatness.networks.build import build
from flatness.records.tables import read_table
from flatness.records.tensors import save_tensors
from flatness.studies.checkpoint_row import CheckpointRow
from flatness.studies.measure_checkpoint import draw_images


def images(*shape):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    return pixels, torch.randint(10, shape[:1], generator=generator)


def save_images(path, *shape):
    tensors = {}
    for part, count in (("train", 12), ("test", 5)):
        tensors[f"{part}_inputs"], tensors[f"{part}_targets"] = images(count, *shape)
    save(path, Dataset("cifar10", False, tensors))


@pytest.fixture
def files(tmp_path):
    save_images(tmp_path / "data.safetensors", 3, 32, 32)
    weights = build("lenet5", seed=2).state_dict()
    save_tensors(tmp_path / "weights.safetensors", weights, {})
    many = {f"seed{s}/step9/{k}": v + s for s in (0, 1) for k, v in weights.items()}
    save_tensors(tmp_path / "many.safetensors", many, {})
    whole = {name: tensor.int() for name, tensor in weights.items()}
    save_tensors(tmp_path / "whole.safetensors", whole, {})
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
    for name in set(QUANTITIES) - {"average_case_sharpness_sampled"}:
        assert row[name] == pytest.approx(expected[name].value, rel=1e-9, nan_ok=True), name
        error = expected[name].standard_error
        assert row[f"{name}_se"] == pytest.approx(error, rel=1e-6, nan_ok=True), name
    assert math.isfinite(row["average_case_sharpness_sampled"])
    assert (row["samples"], row["dataset"], row["demo"]) == (12, "cifar10", False)


def test_reads_one_model_of_many_and_test_images(files):
    assert command(files, "many.safetensors", prefix="seed1/step9/", part="test", samples=4) == 0
    row = read_table(files / "row.csv", CheckpointRow).iloc[0]
    assert (row["prefix"], row["sampled"], row["samples"]) == ("seed1/step9/", "test", 4)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"samples": 13}, 2, "13 asked for"),
        ({"part": "validation"}, 2, "has no validation images"),
        ({"model": "resnet"}, 2, "no 'resnet'"),
        ({"model": "vgg11"}, 3, "check --model and --prefix"),
        ({"prefix": "seed7/"}, 3, "weight seed7/conv1.bias is missing in the file"),
        ({"activation": "tanh"}, 2, "model lenet5 has no option activation"),
        ({"weights": "whole.safetensors"}, 3, "weight conv1.bias is torch.int32 in the file"),
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


def measured(folder, *arguments, **options):
    """The row that a command writes."""
    assert command(folder, *arguments, samples=4, **options) == 0
    return read_table(folder / "row.csv", CheckpointRow).iloc[0]


def test_the_row_says_what_made_it(files):
    row = measured(files, seed=3)
    assert (row["draw_seed"], row["activation"]) == (3, "")
    data = files / "data.safetensors"
    inputs, labels = draw_images(data, load(data).tensors, "train", 4, int(row["draw_seed"]))
    model, targets = build("lenet5", seed=2).double(), one_hot(labels, 10).double()
    found = measure(model, inputs, targets, rho=row["rho"], pairs=int(row["pairs"]))
    again = found["average_case_sharpness_sampled"].value
    assert row["average_case_sharpness_sampled"] == pytest.approx(again, rel=1e-9)


def test_the_row_names_the_activation(files):
    save_images(files / "digits.safetensors", 1, 28, 28)
    save_tensors(files / "mlp.safetensors", build("mlp", seed=0).state_dict(), {})
    asked = {"weights": "mlp.safetensors", "model": "mlp", "data": files / "digits.safetensors"}
    unsaid, relu, tanh = (
        measured(files, **asked, **said)
        for said in ({}, {"activation": "relu"}, {"activation": "tanh"})
    )
    assert (unsaid["activation"], tanh["activation"]) == ("relu", "tanh")
    assert unsaid["experiment"] == relu["experiment"] != tanh["experiment"]


def test_the_hash_is_of_the_files_contents_not_of_their_paths(files):
    first = measured(files)["experiment"]
    for name in ("weights", "data"):
        (files / f"{name}.safetensors").rename(files / f"moved_{name}.safetensors")
    moved = {"weights": "moved_weights.safetensors", "data": files / "moved_data.safetensors"}
    assert measured(files, **moved)["experiment"] == first
    assert measured(files, **moved, seed=1)["experiment"] != first

    weights = build("lenet5", seed=4).state_dict()
    save_tensors(files / "moved_weights.safetensors", weights, {})
    others = measured(files, **moved)["experiment"]
    assert others != first

    dataset = load(files / "moved_data.safetensors")
    brighter = {name: tensor.clamp(min=1) for name, tensor in dataset.tensors.items()}
    save(files / "moved_data.safetensors", Dataset(dataset.name, dataset.demo, brighter))
    assert measured(files, **moved)["experiment"] not in (first, others)


def test_weights_of_float64_are_not_rounded(files):
    model = build("lenet5", seed=2).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 1e-9)
    save_tensors(files / "double.safetensors", model.state_dict(), {})
    data = files / "data.safetensors"
    inputs, _ = draw_images(data, load(data).tensors, "train", 4, 0)
    row = measured(files, "double.safetensors")
    assert row["mls"] == pytest.approx(measure(model, inputs)["mls"].value, rel=1e-12)
