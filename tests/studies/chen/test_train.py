import math
from itertools import islice

import pytest
import torch
from torch.nn import functional

from flatness.records.tables import read_table
from flatness.records.tensors import load_tensors
from flatness.studies.chen.config import Setting
from flatness.studies.chen.images import Labelled, build_network, load_images
from flatness.studies.chen.rows import TrainedCheckpoint
from flatness.studies.chen.train import Trainer, data_order, train_block
from studies.chen.small_study import killed_at, small_training, write_images


def run(folder, experiment, seeds="0-1"):
    data = write_images(folder.parent / "digits.safetensors", network=experiment.network)
    outputs = [folder / name for name in ("final.safetensors", "path.safetensors", "table.csv")]
    train_block(experiment.model_dump_json(), data, seeds, folder / "scratch", *outputs)
    return outputs


def test_an_epoch_is_a_permutation_of_its_own_and_drops_a_partial_batch():
    batches = list(islice(data_order(10, 3, seed=1, first_step=0), 6))
    first, second = torch.cat(batches[:3]).tolist(), torch.cat(batches[3:]).tolist()
    assert len(set(first)) == len(set(second)) == 9
    assert first != second


def test_the_order_from_a_step_on_is_the_whole_order_without_its_beginning():
    whole = torch.stack(list(islice(data_order(10, 3, seed=1, first_step=0), 12)))
    for first in range(8):
        rest = torch.stack(list(islice(data_order(10, 3, seed=1, first_step=first), 12 - first)))
        assert torch.equal(rest, whole[first:])


def test_training_is_gradient_descent_on_the_mean_squared_error(tmp_path):
    experiment = small_training()
    data = write_images(tmp_path / "digits.safetensors")
    images = load_images(data, experiment, torch.float64)
    assert images.train.targets.shape == (40, 10)
    trainer = Trainer(build_network(experiment, 3).double(), experiment.setting, images.train, 3)
    trainer.advance(12)
    literal = build_network(experiment, 3).double()
    for batch in islice(data_order(40, 8, 3, 0), 12):
        error = literal(images.train.inputs[batch]) - images.train.targets[batch]
        gradients = torch.autograd.grad(error.square().mean(), list(literal.parameters()))
        with torch.no_grad():
            for weight, gradient in zip(literal.parameters(), gradients, strict=True):
                weight -= 0.1 * gradient
    for ours, theirs in zip(trainer.model.parameters(), literal.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_weights_depend_on_the_seed_alone_not_on_the_block(tmp_path):
    together = load_tensors(run(tmp_path / "a", small_training(), "0-1")[0])[0]
    alone = load_tensors(run(tmp_path / "b", small_training(), "1-1")[0])[0]
    assert set(alone) < set(together)
    assert all(torch.equal(value, together[name]) for name, value in alone.items())
    assert not torch.equal(together["seed0/step60/fc1.weight"], together["seed1/step60/fc1.weight"])


def test_a_setting_with_seeds_of_its_own_trains_those(tmp_path):
    shared, own = (
        small_training(setting=Setting(learning_rate=0.1, batch_size=8, first_seed=first))
        for first in (0, 20)
    )
    final, _, table = run(tmp_path / "own", own, "0-1")
    assert sorted(set(read_table(table, TrainedCheckpoint)["seed"])) == [20, 21]
    assert run(tmp_path / "shared", shared, "20-21")[0].exists()
    expected = load_tensors(tmp_path / "shared/final.safetensors")[0]
    found = load_tensors(final)[0]
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_weights_before_the_end_are_kept_apart_from_the_last(tmp_path):
    final, trajectory, table = run(tmp_path / "a", small_training())
    steps = [{name.split("/")[1] for name in load_tensors(path)[0]} for path in (final, trajectory)]
    assert steps == [{"step60"}, {"step0", "step30"}]
    rows = read_table(table, TrainedCheckpoint)
    assert rows[["seed", "step"]].values.tolist() == [[s, t] for s in (0, 1) for t in (0, 30, 60)]
    assert rows["train_loss"].iloc[2] < rows["train_loss"].iloc[0]
    assert rows["demo"].all()


def test_a_block_without_trend_leaves_an_empty_trajectory(tmp_path):
    final, trajectory, table = run(tmp_path / "a", small_training(steps=(60,)))
    assert load_tensors(trajectory)[0] == {}
    assert len(load_tensors(final)[0]) == 16
    assert read_table(table, TrainedCheckpoint)["step"].tolist() == [60, 60]


SETTINGS = [
    Setting(learning_rate=0.1, batch_size=8),
    Setting(learning_rate=0.05, batch_size=8, momentum=0.9, weight_decay=1e-3),
    Setting(learning_rate=0.001, batch_size=8, optimizer="adam"),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
@pytest.mark.parametrize("survived", [1, 4, 7])
def test_killed_and_run_again_it_writes_the_same_bytes(tmp_path, monkeypatch, setting, survived):
    experiment = small_training(setting=setting)
    whole = [path.read_bytes() for path in run(tmp_path / "whole", experiment)]
    monkeypatch.setattr("flatness.studies.chen.train.STRIDE", 10)
    monkeypatch.setattr("flatness.studies.chen.train.SAVE_SECONDS", 0.0)
    with killed_at("flatness.records.tensors.Scratch.save", survived):
        run(tmp_path / "killed", experiment)
    assert not (tmp_path / "killed" / "final.safetensors").exists()
    assert [path.read_bytes() for path in run(tmp_path / "killed", experiment)] == whole


def test_resuming_does_not_train_what_was_trained(tmp_path, monkeypatch):
    monkeypatch.setattr("flatness.studies.chen.train.SAVE_SECONDS", 0.0)
    experiment = small_training()
    with killed_at("flatness.studies.chen.train._write_weights"):
        run(tmp_path / "a", experiment)
    taken = []
    order = data_order
    monkeypatch.setattr(
        "flatness.studies.chen.train.data_order", lambda *key: taken.append(key) or order(*key)
    )
    run(tmp_path / "a", experiment)
    assert taken == []


def test_a_damaged_checkpoint_in_the_scratch_folder_is_trained_again(tmp_path):
    experiment = small_training()
    whole = [path.read_bytes() for path in run(tmp_path / "whole", experiment)]
    with killed_at("flatness.studies.chen.train._write_weights"):
        run(tmp_path / "a", experiment)
    (tmp_path / "a" / "scratch" / "seed0_step30.safetensors").write_bytes(b"half")
    assert [path.read_bytes() for path in run(tmp_path / "a", experiment)] == whole


def test_a_diverged_model_keeps_its_rows_and_says_why(tmp_path):
    wild = Setting(learning_rate=1e6, batch_size=8)
    final, _, table = run(
        tmp_path / "a", small_training(setting=wild, activation="relu"), seeds="0-0"
    )
    rows = read_table(table, TrainedCheckpoint)
    assert rows["diverged"].tolist() == [False, True, True]
    assert rows["reason"].tolist()[1:] == ["training loss not finite by step 30"] * 2
    assert math.isnan(rows["train_loss"].iloc[-1])
    assert load_tensors(final)[0] == {}


def test_convolutional_networks_train_channels_last(tmp_path):
    experiment = small_training(network="lenet5", activation="relu")
    data = write_images(tmp_path / "digits.safetensors", network="lenet5")
    images = load_images(data, experiment)
    model = build_network(experiment, 0)
    for tensor in (images.train.inputs, images.train.inputs[torch.arange(8)], model[0].weight):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    plain = build_network(small_training(network="lenet5", activation="relu"), 0)
    contiguous = Labelled(images.train.inputs.contiguous(), images.train.labels)
    loss = functional.mse_loss(
        plain.to(memory_format=torch.contiguous_format)(contiguous.inputs), contiguous.targets
    )
    torch.testing.assert_close(
        loss, functional.mse_loss(model(images.train.inputs), images.train.targets)
    )
