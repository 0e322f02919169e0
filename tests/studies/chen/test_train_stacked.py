import math
from contextlib import nullcontext
from itertools import product
from pathlib import Path

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from flatness.errors import UserError
from flatness.records.checkpoints import load_checkpoints
from flatness.records.frozen import content_hash
from flatness.records.tables import read_table
from flatness.records.tensors import load_tensors
from flatness.studies.chen.config import Checkpoints, ChenSettings, Family, Setting, training
from flatness.studies.chen.images import Labelled, build_network, load_images
from flatness.studies.chen.rows import TrainedCheckpoint
from flatness.studies.chen.stack import Stack
from flatness.studies.chen.stacked_config import (
    StackedTraining,
    StackPart,
    stacked_training,
)
from flatness.studies.chen.train import Trainer, train_block
from flatness.studies.chen.train_stacked import train_stack
from studies.chen.small_study import killed_at, small_training, write_images

SLOW, FAST = (Setting(learning_rate=rate, batch_size=8) for rate in (0.05, 0.1))


def small_stack(settings=(SLOW, FAST), blocks=("0-0", "1-2"), steps=(0, 20, 40), **changes):
    """The slice of two settings, a trend seed and two others."""

    def part(setting, block):
        chosen = {"setting": setting, "steps": steps if block == "0-0" else steps[-1:]}
        return StackPart(training=small_training(**chosen | changes), block=block)

    return StackedTraining(parts=[part(*one) for one in product(settings, blocks)])


def run(folder, experiment):
    data = write_images(folder.parent / "digits.safetensors", network=experiment.shared.network)
    train_stack(experiment.model_dump_json(), data, folder / "scratch", folder / "out")
    return {path.relative_to(folder): path for path in sorted(folder.glob("out/*/*"))}


def bytes_of(files):
    return {name: path.read_bytes() for name, path in files.items()}


def difference_from_the_loop(
    folder, network, settings, device="cpu", seeds=(3, 4), steps=50, leave=0
):
    """Largest difference of weights and losses between stack and loop, float64.

    `leave` models, the first ones, leave the stack after half of the steps.
    """
    options = {"network": network, "activation": "relu", "device": device}
    experiment = small_training(**options)
    data = write_images(folder / "images.safetensors", network=network)
    train = load_images(data, experiment, torch.float64).train
    members = [(setting, seed) for setting in settings for seed in seeds]
    loop = [
        Trainer(build_network(experiment, seed).double(), setting, train, seed)
        for setting, seed in members
    ]
    ends = [steps // 2 if place < leave else steps for place in range(len(members))]
    losses = [trainer.advance(end) for trainer, end in zip(loop, ends, strict=True)]
    models = [build_network(experiment, seed).double() for _, seed in members]
    begun = [parameter.clone() for parameter in models[0].parameters()]
    stack = Stack(models, [setting for setting, _ in members], [seed for _, seed in members], train)
    stack.advance(steps // 2)
    stack.keep(range(leave, len(members)))
    found = [stack.advance(steps) - train.inputs.new_tensor(losses)]
    for model, trainer in zip(models, loop, strict=True):
        pairs = zip(model.parameters(), trainer.model.parameters(), strict=True)
        found += [ours.detach() - theirs.detach() for ours, theirs in pairs]
    moved = max((a - b).abs().max() for a, b in zip(begun, models[0].parameters(), strict=True))
    assert moved > 1e-4
    return max(float(part.abs().max()) for part in found)


WIDE = Setting(learning_rate=0.1, batch_size=20)


@pytest.mark.parametrize(
    ("network", "seeds"), [("mlp", (3, 4)), ("lenet5", (3, 4)), ("vgg11", (3,))]
)
def test_the_stack_takes_the_steps_of_the_loop(tmp_path, network, seeds):
    settings = (SLOW, WIDE, FAST)
    assert difference_from_the_loop(tmp_path, network, settings, seeds=seeds) < 1e-10


@pytest.mark.parametrize("leave", [1, 2, 4])
def test_a_model_that_leaves_ends_as_in_the_loop(tmp_path, leave):
    settings = (SLOW, WIDE, FAST)
    assert difference_from_the_loop(tmp_path, "lenet5", settings, steps=20, leave=leave) < 1e-10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("network", ["mlp", "lenet5", "vgg11"])
def test_the_captured_step_takes_the_steps_of_the_loop(tmp_path, monkeypatch, network):
    """Over several segments, captured anew after models have left."""
    monkeypatch.setattr("flatness.studies.chen.stack.SEGMENT", 7)
    found = difference_from_the_loop(tmp_path, network, (SLOW, WIDE, FAST), device="cuda", leave=3)
    assert found < 1e-10


def test_capturing_a_step_leaves_the_models_as_they_were(monkeypatch):
    """The GPU's calls replaced by plain ones, so that warm-up and restoring run here."""
    plain = nullcontext()
    plain.wait_stream = lambda other: None  # a stream, and what is captured
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: plain)
    for name in ("stream", "graph", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, lambda *arguments: plain)
    adam = Setting(learning_rate=1e-3, batch_size=8, optimizer="adam")
    generator = torch.Generator().manual_seed(0)
    train = Labelled(torch.rand(40, 1, 28, 28, generator=generator), torch.arange(40) % 2)
    stacks = [
        Stack(
            [build_network(small_training(), seed) for seed in (0, 1, 2)],
            (adam, FAST, adam),
            (0, 1, 2),
            train,
        )
        for _ in range(2)
    ]
    for stack in stacks:
        stack.advance(7)
    stacks[1]._capture()
    for stack in stacks:
        stack.advance(13)
    plain, captured = (stack.buffers() for stack in stacks)
    assert all(torch.equal(value, captured[name]) for name, value in plain.items())


@pytest.mark.parametrize(
    "settings",
    [
        (
            FAST,
            Setting(learning_rate=0.01, batch_size=8, momentum=0.9, weight_decay=1e-2),
            Setting(learning_rate=0.02, batch_size=8, momentum=0.5),
        ),
        (
            Setting(learning_rate=1e-3, batch_size=8, optimizer="adam"),
            Setting(learning_rate=3e-4, batch_size=8, optimizer="adam", weight_decay=1e-2),
        ),
    ],
    ids=["momentum and decay", "adam"],
)
def test_each_model_has_its_own_rate_momentum_and_decay(tmp_path, settings):
    assert difference_from_the_loop(tmp_path, "lenet5", settings, seeds=(3,)) < 1e-10


def test_the_files_are_those_of_the_loop(tmp_path):
    experiment = small_stack()
    files = run(tmp_path / "a", experiment)
    for part, block in ((one.training, one.block) for one in experiment.parts):
        stem = tmp_path / "a/out" / part.setting.name / block
        ours = [
            stem.with_name(block + end)
            for end in (".safetensors", ".trajectory.safetensors", ".csv")
        ]
        assert all(path in files.values() for path in ours)
        folder = tmp_path / "loop" / part.setting.name / block
        loop = [folder / name for name in ("final", "trajectory", "table")]
        train_block(part.model_dump_json(), tmp_path / "digits.safetensors", block, folder, *loop)
        for mine, theirs in zip(ours[:2], loop[:2], strict=True):
            weights, expected = load_tensors(mine)[0], load_tensors(theirs)[0]
            assert set(weights) == set(expected)
            for name, value in expected.items():
                torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5)
        rows, expected = (read_table(path, TrainedCheckpoint) for path in (ours[2], loop[2]))
        same = ["setting", "seed", "step", "train_size", "diverged", "device"]
        assert rows[same].equals(expected[same])
        assert rows["train_loss"].to_numpy() == pytest.approx(expected["train_loss"], rel=1e-3)
        assert set(rows["execution"]) == {"stacked"}
        assert set(rows["experiment"]) == {content_hash(experiment)}
    assert len(files) == 3 * 4


@pytest.mark.parametrize(
    ("optimizer", "survived", "goes_on_from"), [("sgd", 1, []), ("sgd", 4, [10]), ("adam", 6, [30])]
)
def test_killed_and_run_again_it_writes_the_same_bytes(
    tmp_path, monkeypatch, optimizer, survived, goes_on_from
):
    momentum = {"momentum": 0.9} if optimizer == "sgd" else {}
    setting = Setting(learning_rate=0.001, batch_size=8, optimizer=optimizer, **momentum)
    experiment = small_stack(settings=(setting,), blocks=("0-0", "1-1"))
    monkeypatch.setattr("flatness.studies.chen.train_stacked.STRIDE", 10)
    whole = bytes_of(run(tmp_path / "whole", experiment))
    monkeypatch.setattr("flatness.studies.chen.train_stacked.SAVE_SECONDS", 0.0)
    with killed_at("flatness.records.tensors.Scratch.save", survived):
        run(tmp_path / "killed", experiment)
    started, restore = [], Stack.restore

    def restore_and_tell(self, tensors, step):
        started.append(step)
        restore(self, tensors, step)

    monkeypatch.setattr(Stack, "restore", restore_and_tell)
    assert bytes_of(run(tmp_path / "killed", experiment)) == whole
    assert len(whole) == 6
    assert started == goes_on_from


@pytest.mark.slow
@pytest.mark.parametrize("survived", range(1, 16))
def test_killed_anywhere_models_of_different_lengths_end_the_same(tmp_path, monkeypatch, survived):
    """One ends early, one diverges, one reaches a loss on the way."""
    wild = Setting(learning_rate=3.0, batch_size=20)
    other = Setting(learning_rate=0.2, batch_size=8)
    lengths = ((SLOW, (0, 20)), (FAST, (0, 20, 150)), (other, (0, 20, 150)), (wild, (0, 20, 60)))
    parts = [
        StackPart(
            training=small_training(setting=setting, steps=steps, end=20, losses=(0.09, 0.03)),
            block="0-0",
        )
        for setting, steps in lengths
    ]
    experiment = StackedTraining(parts=parts)
    monkeypatch.setattr("flatness.studies.chen.train_stacked.STRIDE", 10)
    whole = run(tmp_path / "whole", experiment)
    kept = bytes_of(whole)
    tables = {
        path.parent.name: read_table(path, TrainedCheckpoint)
        for path in whole.values()
        if path.suffix == ".csv"
    }
    assert tables[wild.name]["diverged"].tolist()[0] is False
    assert tables[wild.name]["diverged"].any()
    assert len(tables[FAST.name]) > 3  # a loss was reached on the way
    monkeypatch.setattr("flatness.studies.chen.train_stacked.SAVE_SECONDS", 0.0)
    with killed_at("flatness.records.tensors.Scratch.save", survived):
        run(tmp_path / "killed", experiment)
    assert bytes_of(run(tmp_path / "killed", experiment)) == kept


def test_it_looks_for_interpolation_after_all_losses_are_reached(tmp_path):
    experiment = small_stack(settings=(FAST,), blocks=("0-0",), steps=(0, 1400), losses=(0.02,))
    [part] = experiment.parts
    table = run(tmp_path / "a", experiment)[Path("out/lr0.1_batch8/0-0.csv")]
    loop = [tmp_path / name for name in ("final", "trajectory", "table", "scratch")]
    data = tmp_path / "digits.safetensors"
    train_block(part.training.model_dump_json(), data, "0-0", loop.pop(), *loop)
    steps = [read_table(path, TrainedCheckpoint)["step"].tolist() for path in (table, loop[2])]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 4


def test_a_damaged_checkpoint_in_the_scratch_folder_is_trained_again(tmp_path):
    experiment = small_stack(blocks=("0-0",))
    whole = bytes_of(run(tmp_path / "whole", experiment))
    with killed_at("flatness.studies.chen.train_stacked.write_part"):
        run(tmp_path / "a", experiment)
    (tmp_path / "a/scratch/lr0.1_batch8_seed0_step20.safetensors").write_bytes(b"half")
    assert bytes_of(run(tmp_path / "a", experiment)) == whole


@pytest.mark.parametrize("network", ["mlp", "lenet5"])
def test_a_diverged_model_says_why_and_harms_no_other(tmp_path, network):
    wild = Setting(learning_rate=1e8, batch_size=8)
    options = {"network": network, "activation": "relu", "blocks": ("0-0",)}
    beside = run(tmp_path / "a", small_stack(settings=(wild, FAST), **options))
    healthy = run(tmp_path / "b", small_stack(settings=(SLOW, FAST), **options))
    lost = read_table(tmp_path / "a/out" / wild.name / "0-0.csv", TrainedCheckpoint)
    assert lost["diverged"].tolist() == [False, True, True]
    assert lost["reason"].tolist()[1:] == ["training loss not finite by step 20"] * 2
    assert math.isnan(lost["train_loss"].iloc[-1])
    assert load_tensors(tmp_path / "a/out" / wild.name / "0-0.safetensors")[0] == {}
    for ending in (".safetensors", ".trajectory.safetensors"):
        ours, theirs = (
            load_tensors(tmp_path / folder / "out" / FAST.name / f"0-0{ending}")[0]
            for folder in "ab"
        )
        assert len(ours) > 0
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert len(beside) == len(healthy) == 6


def test_models_of_a_stack_may_end_at_steps_of_their_own(tmp_path):
    """Each as the loop ends it: losses that are reached later are not looked for."""
    slow = SLOW.model_copy(update={"iterations": 200})
    family = Family(
        network="mlp", dataset="digits", settings=(slow, FAST), seeds=2, block=1, trend_seeds=1,
        iterations=120, trend_iterations=160, samples=6,
        checkpoints=Checkpoints(schedule="even", count=2, losses=(0.09, 0.02, 0.008)),
    )  # fmt: skip
    study = ChenSettings(families={"mlp_tanh": family}, keep_trajectories=True)
    chosen = stacked_training(study, "mlp_tanh", "cpu")
    assert {part.training.steps for part in chosen.parts} == {
        (0, 100, 120, 200), (0, 120, 200), (0, 80, 120, 160), (0, 120)
    }  # fmt: skip
    run(tmp_path / "a", chosen)
    for part in chosen.parts:
        loop = [tmp_path / name for name in ("final", "trajectory", "table", "scratch")]
        slice_of = part.training.model_dump_json()
        train_block(slice_of, tmp_path / "digits.safetensors", part.block, loop.pop(), *loop)
        ours = tmp_path / "a/out" / part.training.setting.name / f"{part.block}.csv"
        steps = [read_table(path, TrainedCheckpoint)["step"].tolist() for path in (ours, loop[2])]
        assert steps[0] == steps[1]
        assert steps[0][-1] == part.training.steps[-1]
        weights = load_checkpoints(ours.with_suffix(".safetensors"))[0]
        assert list(weights) == [f"seed{part.block[0]}/step120"]


def test_models_that_leave_keep_their_weights_and_change_no_other(tmp_path):
    """Momentum, and a group of its own, go on as in a stack of their own."""
    heavy = Setting(learning_rate=0.01, batch_size=8, momentum=0.9)
    data = write_images(tmp_path / "images.safetensors", network="lenet5")
    experiment = small_training(network="lenet5", activation="relu")
    train = load_images(data, experiment, torch.float64).train
    settings = (heavy, WIDE, FAST, heavy)

    def weights(chosen, *legs):
        models = [build_network(experiment, seed).double() for seed in chosen]
        stack = Stack(models, [settings[seed] for seed in chosen], chosen, train)
        for stop, kept in legs:
            stack.advance(stop)
            stack.keep(kept)
        return dict(
            zip(chosen, (parameters_to_vector(m.parameters()) for m in models), strict=True)
        )

    found = weights((0, 1, 2, 3), (7, (0, 1, 3)), (12, (0, 3)), (30, (0, 3)))
    alone = weights((0, 3), (30, (0, 1))) | weights((1,), (12, (0,))) | weights((2,), (7, (0,)))
    for seed, expected in alone.items():
        torch.testing.assert_close(found[seed], expected, rtol=0, atol=1e-10)


def test_a_missing_gpu_is_reported_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch finds no GPU here"):
        run(tmp_path / "a", small_stack(device="cuda"))


def test_the_stack_of_a_family_is_what_the_loop_would_train():
    adam = Setting(learning_rate=0.001, batch_size=8, optimizer="adam")
    other = Setting(learning_rate=0.1, batch_size=20)
    family = Family(
        network="mlp", dataset="digits", settings=(SLOW, other, adam, FAST), seeds=5, block=2,
        trend_seeds=2, iterations=60, checkpoints=Checkpoints(schedule="even", count=2), samples=6,
    )  # fmt: skip
    study = ChenSettings(families={"mlp_relu": family}, keep_trajectories=True)
    chosen = stacked_training(study, "mlp_relu", "cpu")
    for part in chosen.parts:
        name = part.training.setting.name
        assert part.training == training(study, "mlp_relu", name, part.block, "cpu")
    assert [(part.setting, seed) for part, seed in chosen.members()] == [
        (setting, seed) for setting in (SLOW, other, adam, FAST) for seed in range(5)
    ]
    cuda = stacked_training(study, "mlp_relu", "cuda")
    assert len({content_hash(x) for x in (chosen, cuda, chosen.parts[0].training)}) == 3
