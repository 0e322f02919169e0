"""The fused step against the plain loop, and ReLU after max-pooling against before."""

import copy
from itertools import islice

import pytest
import torch
from torch import nn
from torch.nn import functional

from flatness.networks.build import build
from flatness.records.tables import read_table
from flatness.studies.chen.config import Setting
from flatness.studies.chen.images import build_network, load_images
from flatness.studies.chen.rows import TrainedCheckpoint
from flatness.studies.chen.steps import AutogradStep, FusedStep, is_dense, step_of
from flatness.studies.chen.train import Trainer, data_order, train_block
from studies.chen.small_study import small_training, write_images

PLAIN = Setting(learning_rate=0.1, batch_size=8)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_after_100_steps_the_fused_weights_are_those_of_the_plain_loop(tmp_path, activation):
    experiment = small_training(activation=activation)
    images = load_images(write_images(tmp_path / "digits.safetensors"), experiment, torch.float64)
    trainer = Trainer(build_network(experiment, 3).double(), PLAIN, images.train, 3)
    assert trainer.execution == "fused"
    last = trainer.advance(100)
    plain = build_network(experiment, 3).double()
    for batch in islice(data_order(40, 8, 3, 0), 100):
        loss = functional.mse_loss(plain(images.train.inputs[batch]), images.train.targets[batch])
        gradients = torch.autograd.grad(loss, list(plain.parameters()))
        with torch.no_grad():
            for weights, gradient in zip(plain.parameters(), gradients, strict=True):
                weights -= 0.1 * gradient
    assert last == pytest.approx(loss.item(), rel=1e-10)
    for ours, theirs in zip(trainer.model.parameters(), plain.parameters(), strict=True):
        assert (ours - theirs).abs().max() < 1e-10


@pytest.mark.parametrize("network", ["mlp", "lenet5", "vgg11"])
def test_only_plain_descent_on_a_dense_network_is_fused(network):
    model = build(network, seed=0)
    assert isinstance(step_of(model, PLAIN), FusedStep if network == "mlp" else AutogradStep)
    for changes in ({"momentum": 0.9}, {"weight_decay": 1e-3}, {"optimizer": "adam"}):
        setting = Setting(learning_rate=0.1, batch_size=8, **changes)
        assert isinstance(step_of(model, setting), AutogradStep)


def test_networks_that_the_fused_step_does_not_know_are_not_dense():
    assert is_dense(nn.Sequential(nn.Linear(3, 2)))
    assert is_dense(nn.Sequential(nn.Flatten(), nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)))
    for layers in (
        [nn.Linear(3, 2, bias=False)],
        [nn.Linear(3, 2), nn.ELU(), nn.Linear(2, 1)],
        [nn.Linear(3, 2), nn.ReLU()],
        [nn.Linear(3, 2), nn.Linear(2, 1)],
    ):
        assert not is_dense(nn.Sequential(*layers))


def test_a_loss_that_is_not_finite_is_seen():
    step = step_of(build("mlp", seed=0), Setting(learning_rate=1e30, batch_size=8))
    inputs, targets = torch.rand(8, 1, 28, 28), torch.zeros(8, 10)
    losses = [step(inputs, targets) for _ in range(4)]
    assert losses[0].isfinite() and not losses[-1].isfinite()


@pytest.mark.parametrize(("momentum", "execution"), [(0.0, "fused"), (0.9, "loop")])
def test_rows_say_which_steps_were_taken(tmp_path, momentum, execution):
    setting = Setting(learning_rate=0.01, batch_size=8, momentum=momentum)
    experiment = small_training(setting=setting, steps=(2,))
    data = write_images(tmp_path / "digits.safetensors")
    outputs = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "table.csv")]
    train_block(experiment.model_dump_json(), data, "0-0", tmp_path / "scratch", *outputs)
    assert set(read_table(outputs[2], TrainedCheckpoint)["execution"]) == {execution}


@pytest.mark.parametrize("network", ["lenet5", "vgg11"])
def test_relu_after_pooling_is_the_same_function_to_the_bit(network):
    model = build(network, seed=0)
    before = copy.deepcopy(model)
    pools = [index for index, layer in enumerate(model) if isinstance(layer, nn.MaxPool2d)]
    assert all(isinstance(model[index + 1], nn.ReLU) for index in pools)
    layers = list(before)
    for index in pools:
        layers[index], layers[index + 1] = layers[index + 1], layers[index]
    before = nn.Sequential(*layers)
    inputs = torch.rand(16, 3, 32, 32).round(decimals=1)
    inputs[0] = 0.0
    found, expected = model(inputs), before(inputs)
    assert torch.equal(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found.square().sum(), list(model.parameters())),
        torch.autograd.grad(expected.square().sum(), list(before.parameters())),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
