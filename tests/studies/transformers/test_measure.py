"""From weights to a row: trained here and pretrained, resumed, diverged, unreliable."""

import math

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from flatness.__main__ import VERBS, main
from flatness.datasets.normalised import save
from flatness.errors import DataError
from flatness.records.frozen import canonical_json
from flatness.records.tables import read_table
from flatness.studies.transformers import measure as measure_module
from flatness.studies.transformers.config import Pretrained, VitMeasurement, VitModel
from flatness.studies.transformers.measure import measure_models
from flatness.studies.transformers.models import build
from flatness.studies.transformers.rows import MeasuredVit
from flatness.studies.transformers.train import train_models
from studies.transformers.tiny_transformers import (
    LEVIT,
    MEASURING,
    VIT,
    measuring_slice,
    striped_images,
    training_slice,
)


def train(folder, *models, **changes):
    save(folder / "data.safetensors", striped_images())
    train_models(
        experiment=canonical_json(training_slice(*models, **changes)),
        data=folder / "data.safetensors",
        scratch=folder / "scratch_train",
        output=folder / "weights.safetensors",
        table=folder / "training.csv",
    )


def measured(folder, settings, **options):
    if settings.dataset is not None:
        options |= {
            "data": folder / "data.safetensors",
            "checkpoints": folder / "weights.safetensors",
        }
    measure_models(
        experiment=canonical_json(settings),
        scratch=folder / "scratch_measure",
        output=folder / "measured.csv",
        **options,
    )
    return read_table(folder / "measured.csv", MeasuredVit)


def test_one_row_per_model_in_their_order(tmp_path):
    train(tmp_path, VIT, LEVIT, images=1600, learning_rate=1e-2, flip=False)
    table = measured(tmp_path, measuring_slice(VIT, LEVIT))
    assert table["model"].tolist() == ["vit_tiny", "levit_small"]
    assert table["reason"].tolist() == ["", ""]
    assert (table["mls_residual"] <= MEASURING.power.tolerance).all()
    assert (table["evaluated"] == 20).all() and (table["images"] == 6).all()
    vit = table.iloc[0]
    assert vit["test_accuracy"] > 0.9 and not vit["untrained"]
    assert vit["parameters"] == sum(p.numel() for p in build(VIT, 4, 0).parameters())
    assert 4 <= vit["pairs"] <= 8 and vit["pair_images"] == 5 * vit["pairs"]
    assert 24 <= vit["perturbations_released"] <= 48
    assert 0.2 < vit["tightness"] < 5


def test_numbers_are_those_of_the_weights_in_the_file(tmp_path):
    """Normalized MLS from the explicit Jacobian, on the images that seed 0 draws."""
    train(tmp_path, VIT)
    settings = measuring_slice(VIT, power=MEASURING.power.model_copy(update={"tolerance": 1e-4}))
    row = measured(tmp_path, settings).iloc[0]
    weights, _ = measure_module.load_checkpoints(tmp_path / "weights.safetensors")
    module = build(VIT, 4, 9).eval()
    module.load_state_dict(weights[VIT.name])
    images = measure_module.small_images(striped_images(), "test", 16, "cpu")
    inputs, _ = images.take(measure_module.draw_index(images, 6, 0))
    squares = []
    for x in inputs:
        jacobian = torch.autograd.functional.jacobian(lambda z: module(z[None]).sigmoid()[0], x)
        norm = torch.linalg.matrix_norm(jacobian.reshape(4, -1), 2)
        squares.append((norm**2 * x.square().sum()).item())
    squares = torch.tensor(squares)
    assert row["normalized_mls"] == pytest.approx(squares.mean().item(), rel=1e-4)
    assert row["normalized_mls_se"] == pytest.approx(squares.std().item() / math.sqrt(6), rel=1e-3)


def test_killed_between_models_it_measures_none_twice(tmp_path, monkeypatch):
    twin = VIT.model_copy(update={"name": "vit_twin"})
    train(tmp_path, VIT, twin)
    settings = measuring_slice(VIT, twin)
    measured(tmp_path, settings)
    whole = (tmp_path / "measured.csv").read_bytes()
    seen, literal = [], measure_module.measure_model

    def killed(subject, *arguments):
        seen.append(subject.model.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return literal(subject, *arguments)

    monkeypatch.setattr(measure_module, "measure_model", killed)
    (tmp_path / "scratch_measure" / "vit_tiny.safetensors").unlink()
    (tmp_path / "scratch_measure" / "vit_twin.safetensors").unlink()
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, settings)
    measured(tmp_path, settings)
    assert seen == ["vit_tiny", "vit_twin", "vit_twin"]
    assert (tmp_path / "measured.csv").read_bytes() == whole


def test_a_diverged_model_keeps_its_row(tmp_path):
    train(tmp_path, VIT, images=320, learning_rate=1e30)
    row = measured(tmp_path, measuring_slice(VIT)).iloc[0]
    assert row["reason"].startswith("loss not finite at step")
    assert math.isnan(row["normalized_mls"]) and not row["reliable"] and row["untrained"]


def test_running_out_of_memory_is_a_reason(tmp_path, monkeypatch):
    train(tmp_path, VIT)

    def too_large(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(measure_module, "measure", too_large)
    row = measured(tmp_path, measuring_slice(VIT)).iloc[0]
    assert "lower chunk or perturbations.stack" in row["reason"]
    assert math.isfinite(row["test_loss"])


def test_quality_and_training_flags_follow_their_limits(tmp_path):
    train(tmp_path, VIT)
    strict = measured(tmp_path, measuring_slice(VIT, quality=1e-6, untrained_below=0.999)).iloc[0]
    assert strict["untrained"] and not strict["reliable"] and not strict["reliable_released"]
    loose = measured(tmp_path, measuring_slice(VIT, quality=0.99, untrained_below=0.0)).iloc[0]
    assert not loose["untrained"]
    assert loose["reliable"] == (
        loose["normalized_mls_se"] < 0.99 * loose["normalized_mls"]
        and loose["average_case_sharpness_se"] < 0.99 * abs(loose["average_case_sharpness"])
    )


def test_weights_of_another_block_are_refused(tmp_path):
    train(tmp_path, VIT)
    with pytest.raises(DataError, match="lacks the weights of levit_small"):
        measured(tmp_path, measuring_slice(LEVIT))


@pytest.fixture
def imagenet(tmp_path):
    """A thousand class folders with one small image each."""
    for number in range(1000):
        folder = tmp_path / "val" / f"n{number:08d}"
        folder.mkdir(parents=True)
        Image.new("RGB", (24, 24), (number % 256, 90, number // 4)).save(folder / "a.png")
    return tmp_path / "val"


def test_pretrained_weights_from_a_folder(imagenet, tmp_path):
    tag = VitModel(name="test_vit.r160_in1k", constructor="test_vit.r160_in1k")
    torch.manual_seed(0)
    save_file(timm.create_model(tag.name).state_dict(), tmp_path / f"{tag.name}.safetensors")
    how = MEASURING.model_copy(update={"images": 2, "evaluated": 4})
    settings = VitMeasurement(dataset=None, models=(tag,), measuring=how, device="cpu")
    row = measured(tmp_path, settings, images_dir=imagenet, weights_dir=tmp_path).iloc[0]
    assert (row["dataset"], row["pretrained"], row["demo"]) == ("imagenet", True, False)
    assert (row["input_size"], row["evaluated"], row["images"]) == (160, 4, 2)
    assert row["reason"] == "" and row["normalized_mls"] > 0


def test_missing_folders_end_the_verb_with_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(
        VERBS, "measure-transformers", "flatness.studies.transformers.measure:measure_models"
    )
    source = Pretrained(
        models_file="", images_dir=str(tmp_path / "val"), weights_dir=None, download=False
    )
    for name, value in source.exports.items():
        monkeypatch.setenv(name, value)
    settings = VitMeasurement(dataset=None, models=(VIT,), measuring=MEASURING, device="cpu")
    code = main(
        ["measure-transformers", "--experiment", canonical_json(settings)]
        + ["--scratch", str(tmp_path), "--output", str(tmp_path / "out.csv")]
    )
    message = capsys.readouterr().err
    assert code == DataError.exit_code
    assert message.startswith(f"error: transformers: {tmp_path / 'val'}: no such folder")
    assert "set transformers.pretrained.download to true" in message
    assert message.count("\n") == 1 and "these would run (1): vit_tiny" in message
    assert not (tmp_path / "out.csv").exists()


def test_images_that_did_not_converge_are_counted_and_left_out(monkeypatch):
    module = build(VIT, 4, 0).eval().requires_grad_(False)
    images = measure_module.small_images(striped_images(), "test", 16, "cpu")
    inputs, _ = images.take(measure_module.draw_index(images, 6, 0))
    literal = measure_module.jacobian_norms

    def two_lost(*arguments, **options):
        found = literal(*arguments, **options)
        found.values[[1, 4]] = math.nan
        return found

    monkeypatch.setattr(measure_module, "jacobian_norms", two_lost)
    found = measure_module.measure(module, images, MEASURING)
    kept = two_lost(
        lambda x: module(x).sigmoid(), inputs, MEASURING.power, seed=0, chunk=MEASURING.chunk
    ).values
    squares = (inputs.flatten(1).square().sum(1) * kept.square())[[0, 2, 3, 5]]
    assert found.mls_unconverged == 2 and not found.reliable
    assert found.normalized_mls == pytest.approx(squares.mean().item())
    assert math.isfinite(found.tightness) and math.isfinite(found.mls)


def test_a_model_whose_images_never_converge_has_no_mls_and_says_why(tmp_path):
    train(tmp_path, VIT)
    hopeless = MEASURING.power.model_copy(update={"tolerance": 1e-12, "limit": 8})
    row = measured(tmp_path, measuring_slice(VIT, power=hopeless)).iloc[0]
    assert row["mls_unconverged"] == row["images"] == 6
    assert math.isnan(row["normalized_mls"]) and math.isnan(row["mls"])
    assert row["reason"] == "not finite: normalized_mls"
