import copy

import pytest
import torch
from torch import nn

from flatness.records.checkpoints import (
    checkpoint_name,
    load_checkpoints,
    restore_training,
    save_checkpoints,
    training_tensors,
)


def test_models_come_back_under_their_names(tmp_path):
    models = {
        checkpoint_name(seed, step): {"0.weight": torch.full((2, 3), float(seed * step))}
        for seed, step in ((3, 0), (3, 100), (13, 100))
    }
    save_checkpoints(tmp_path / "w.safetensors", models | {"seed4/step0": {}}, {"of": "three"})
    found, metadata = load_checkpoints(tmp_path / "w.safetensors")
    assert metadata == {"of": "three"}
    assert found.keys() == models.keys()
    assert all(torch.equal(found[name]["0.weight"], models[name]["0.weight"]) for name in models)


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, fused=True),
    "adam": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, fused=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_to_the_same_bytes(optimizer):
    """With a buffer (batch norm) and weights that are channels-last in memory."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    network = network.to(memory_format=torch.channels_last)
    images = torch.randn(6, 8, 3, 4, 4)

    def steps(model, moments, batches):
        for batch in batches:
            moments.zero_grad()
            model(batch).square().mean().backward()
            moments.step()

    whole, parted, fresh = (copy.deepcopy(network) for _ in range(3))
    straight, before, after = (
        OPTIMIZERS[optimizer](m.parameters()) for m in (whole, parted, fresh)
    )
    steps(whole, straight, images)
    steps(parted, before, images[:3])
    saved = {name: tensor.clone() for name, tensor in training_tensors(parted, before).items()}
    restore_training(fresh, after, saved | {"something else": torch.zeros(1)})
    steps(fresh, after, images[3:])
    expected, found = whole.state_dict(), fresh.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
