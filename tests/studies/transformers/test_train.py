"""Training: resumes to the same bytes, does not depend on the block, learns, admits divergence."""

import pytest
import torch

from flatness.datasets.normalised import save
from flatness.records.frozen import canonical_json
from flatness.records.tables import read_table
from flatness.records.tensors import load_tensors
from flatness.studies.transformers import train as training_module
from flatness.studies.transformers.models import build
from flatness.studies.transformers.rows import TrainedVit
from flatness.studies.transformers.train import (
    one_against_rest,
    rise_and_fall,
    start_at_base_rate,
    train_models,
)
from studies.transformers.tiny_transformers import (
    LEVIT,
    TINY_VIT,
    VIT,
    striped_images,
    training_slice,
)


@pytest.fixture
def data(tmp_path):
    save(tmp_path / "data.safetensors", striped_images())
    return tmp_path / "data.safetensors"


def run(settings, data, folder):
    train_models(
        experiment=canonical_json(settings),
        data=data,
        scratch=folder / "scratch",
        output=folder / "weights.safetensors",
        table=folder / "training.csv",
    )
    return (folder / "weights.safetensors").read_bytes(), (folder / "training.csv").read_bytes()


@pytest.mark.parametrize("model", [TINY_VIT, LEVIT], ids=lambda m: m.name)
def test_killed_anywhere_it_goes_on_to_the_same_bytes(model, data, tmp_path, monkeypatch):
    settings = training_slice(VIT, model)
    whole = run(settings, data, tmp_path / "whole")
    monkeypatch.setattr(training_module, "SAVE_SECONDS", 0)
    literal, calls = training_module.one_against_rest, []

    def killed(*arguments, **options):
        calls.append(1)
        if len(calls) in (3, 9):
            raise KeyboardInterrupt
        return literal(*arguments, **options)

    monkeypatch.setattr(training_module, "one_against_rest", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(settings, data, tmp_path / "killed")
    assert run(settings, data, tmp_path / "killed") == whole
    assert len(calls) == 2 * 6 + 2  # six steps a model, and the two that were killed


def test_a_model_does_not_depend_on_its_block(data, tmp_path):
    run(training_slice(VIT, TINY_VIT), data, tmp_path / "both")
    run(training_slice(TINY_VIT), data, tmp_path / "alone")
    both, _ = load_tensors(tmp_path / "both" / "weights.safetensors")
    alone, _ = load_tensors(tmp_path / "alone" / "weights.safetensors")
    assert set(alone) < set(both)
    assert all(torch.equal(both[name], alone[name]) for name in alone)


def test_it_learns_and_says_what_it_trained(data, tmp_path):
    run(training_slice(VIT, images=1600, learning_rate=1e-2, flip=False), data, tmp_path)
    table = read_table(tmp_path / "training.csv", TrainedVit)
    row = table.iloc[0]
    assert row["last_train_loss"] < 0.6  # 2.25 by chance
    assert (row["family"], row["images_seen"], row["demo"]) == ("vit", 1600, True)
    assert not row["diverged"]


def test_divergence_is_a_row_with_its_reason(data, tmp_path):
    run(training_slice(VIT, images=320, learning_rate=1e30), data, tmp_path)
    row = read_table(tmp_path / "training.csv", TrainedVit).iloc[0]
    assert row["diverged"]
    assert row["reason"].startswith("loss not finite at step")
    assert row["images_seen"] < 320


def test_an_epoch_shows_every_image_once():
    images = training_module.small_images(striped_images(train=64), "train", None, "cpu")
    settings = training_slice(VIT, flip=False).training
    seen = [training_module._batch(images, settings, step)[0] for step in range(8)]
    first, second = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert not torch.equal(first, second)
    assert len(torch.unique(first.flatten(1), dim=0)) == 64
    assert torch.equal(first.sum((1, 2, 3)).sort().values, second.sum((1, 2, 3)).sort().values)


def test_half_the_images_are_mirrored():
    images = training_module.small_images(striped_images(train=64), "train", None, "cpu")
    plain, mirrored = (
        torch.cat(
            [
                training_module._batch(images, training_slice(VIT, flip=flip).training, step)[0]
                for step in range(4)
            ]
        )
        for flip in (False, True)
    )
    flipped = (plain.flip(-1) - mirrored).abs().amax((1, 2, 3)) == 0
    same = (plain - mirrored).abs().amax((1, 2, 3)) == 0
    assert (flipped ^ same).all()
    assert 16 < flipped.sum() < 48


def test_the_learning_rate_rises_and_falls():
    assert [rise_and_fall(p, 0.2) for p in (0, 0.1, 0.2, 0.6, 1)] == [0, 0.5, 1, 0.5, 0]
    assert rise_and_fall(0.0, 0) == 1


def test_the_loss_is_one_class_against_the_rest():
    outputs = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]], dtype=torch.float64)
    share = outputs.sigmoid()
    for smoothing, one, rest in ((0.0, 1.0, 0.0), (0.3, 0.8, 0.1)):
        targets = torch.full((2, 3), rest, dtype=torch.float64)
        targets[0, 0] = targets[1, 1] = one
        literal = -(targets * share.log() + (1 - targets) * (1 - share).log()).sum() / 2
        found = one_against_rest(outputs, torch.tensor([0, 1]), smoothing)
        torch.testing.assert_close(found, literal)


@pytest.mark.parametrize("model", [VIT, TINY_VIT, LEVIT], ids=lambda m: m.name)
def test_each_class_begins_at_its_share(model):
    module = build(model, 4, 0).eval()
    start_at_base_rate(module, 4)
    size = (3, 3, model.image_size, model.image_size)
    shares = module(torch.zeros(size)).sigmoid()
    torch.testing.assert_close(shares, torch.full((3, 4), 0.25), atol=0.1, rtol=0)
