import math

import pytest
import torch
from torch.nn import functional

from flatness.records.tensors import Scratch
from flatness.studies.epfl import lenet5, networks
from flatness.studies.epfl.defects.lenet5 import WEIGHT_DECAY
from flatness.studies.epfl.lenet5 import initial_lenet5, lenet5_images, train_epoch, train_lenet5
from flatness.studies.epfl.networks import evaluate
from flatness.studies.epfl.seeds import generator, seed_of
from studies.epfl.small_pools import images, training


@pytest.fixture(scope="module")
def small():
    return lenet5_images(images(), None, "cpu")


def train(folder, data, seeds=(0, 5), **changes):
    settings = training("lenet5", tolerance=1e-9, **changes)
    with Scratch(folder, "experiment") as scratch:
        return train_lenet5(data, settings, seeds, scratch)


def same(outcomes, others):
    for one, other in zip(outcomes, others, strict=True):
        assert (one.seed, one.epoch_losses, one.test_loss) == (
            other.seed,
            other.epoch_losses,
            other.test_loss,
        )
        assert all(values.equal(other.state[name]) for name, values in one.state.items())


def test_images_are_normalised_once(small):
    pixels = images().tensors["train_inputs"].double() / 255
    assert torch.allclose(small.train[0].double(), (pixels - 0.2860) / 0.3530, atol=1e-6)
    assert small.train[0].dtype == torch.float32
    assert lenet5_images(images(), 40, "cpu").train[0].shape == (40, 1, 28, 28)


def test_training_learns_and_a_model_is_the_same_in_any_block(tmp_path, small):
    both = train(tmp_path / "both", small, max_epochs=8)
    alone = train(tmp_path / "alone", small, [5], max_epochs=8)
    same(both[1:], alone)
    assert both[0].epoch_losses != both[1].epoch_losses
    for outcome in both:
        assert outcome.epoch_losses[-1] < outcome.epoch_losses[0] and outcome.reason == ""


@pytest.mark.parametrize("finished_epochs", [1, 3, 5])
def test_killed_after_any_epoch_it_goes_on_to_the_same_bits(
    tmp_path, small, monkeypatch, finished_epochs
):
    uninterrupted = train(tmp_path / "whole", small)
    calls = 0

    def killed(*arguments):
        nonlocal calls
        calls += 1
        if calls > finished_epochs:
            raise KeyboardInterrupt
        return train_epoch(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lenet5, "train_epoch", killed)
        train(tmp_path / "killed", small)
    calls = -math.inf
    monkeypatch.setattr(lenet5, "train_epoch", killed)
    torch.manual_seed(12345)
    same(train(tmp_path / "killed", small), uninterrupted)


def test_a_finished_block_is_not_trained_again(tmp_path, small, monkeypatch):
    first = train(tmp_path, small)
    monkeypatch.setattr(lenet5, "train_epoch", None)
    monkeypatch.setattr(lenet5, "evaluate", None)
    same(train(tmp_path, small), first)


@pytest.mark.parametrize("defects", [(), ("weight_decay",), ("default_init", "evaluation_mode")])
def test_an_epoch_is_plain_sgd(small, defects):
    settings = training("lenet5", defects=defects)
    model = initial_lenet5(4).double()
    other = initial_lenet5(4).double()
    data = small.train[0].double(), small.train[1]
    for epoch in (1, 2):
        found = train_epoch(model, data, settings, 4, epoch)
        other.train(epoch == 1 or "evaluation_mode" not in defects)
        torch.manual_seed(seed_of("dropout", 4, epoch))
        order = torch.randperm(96, generator=generator("epoch", 4, epoch))
        losses = []
        for batch in order.split(16):
            loss = functional.cross_entropy(other(data[0][batch]), data[1][batch])
            gradients = torch.autograd.grad(loss, list(other.parameters()))
            with torch.no_grad():
                for weights, gradient in zip(other.parameters(), gradients, strict=True):
                    decay = WEIGHT_DECAY * weights if "weight_decay" in defects else 0
                    weights -= 0.05 * (gradient + decay)
            losses.append(loss.item())
        assert found == pytest.approx(sum(losses) / 6, rel=1e-10)
    for name, values in model.state_dict().items():
        assert torch.allclose(values, other.state_dict()[name], rtol=1e-9, atol=1e-12)


def test_evaluation_mode_from_the_second_epoch_freezes_batch_norm(small):
    settings = training("lenet5", defects=("evaluation_mode",))
    model = initial_lenet5(0)
    train_epoch(model, small.train, settings, 0, 1)
    mean = model.features[1].running_mean.clone()
    assert mean.abs().max() > 0
    train_epoch(model, small.train, settings, 0, 2)
    assert model.features[1].running_mean.equal(mean)


def test_initial_weights_are_xavier_or_pytorchs():
    assert initial_lenet5(0).classifier[0].bias.abs().max() == 0
    assert initial_lenet5(0, default_init=True).classifier[0].bias.abs().max() > 0
    same_seed = zip(initial_lenet5(2).parameters(), initial_lenet5(2).parameters(), strict=True)
    assert all(one.equal(other) for one, other in same_seed)


def test_evaluation_is_over_all_images_in_evaluation_mode(small, monkeypatch):
    monkeypatch.setattr(networks, "EVALUATION_BATCH", 40)
    model = initial_lenet5(0).train()
    loss, accuracy = evaluate(model, *small.train)
    scores = model.eval()(small.train[0])
    expected = functional.cross_entropy(scores, small.train[1]).item()
    assert loss == pytest.approx(expected, rel=1e-6)
    assert accuracy == pytest.approx((scores.argmax(1) == small.train[1]).double().mean().item())


def test_a_model_that_diverges_is_kept_with_its_reason(tmp_path, small):
    (outcome,) = train(tmp_path, small, [0], learning_rate=1e30)
    assert "in epoch 1" in outcome.reason and math.isnan(outcome.test_loss)
    same_again = train(tmp_path, small, [0], learning_rate=1e30)
    assert same_again[0].reason == outcome.reason
