"""Checkpoints where training reaches a loss: found once, at the first look, and resumable."""

import pytest

from flatness.records.tables import read_table
from flatness.records.tensors import load_tensors
from flatness.studies.chen.config import Checkpoints
from flatness.studies.chen.crossings import Crossings
from flatness.studies.chen.measure import measure_block
from flatness.studies.chen.measured_rows import MeasuredCheckpoint
from flatness.studies.chen.rows import TrainedCheckpoint
from studies.chen.small_study import killed_at, small_measurement, small_training, write_images
from studies.chen.test_train import run
from studies.chen.test_train_stacked import FAST, small_stack
from studies.chen.test_train_stacked import run as run_stack


@pytest.fixture(autouse=True)
def look_every_epoch(monkeypatch):
    """Five steps, of 40 images in batches of eight."""
    monkeypatch.setattr("flatness.studies.chen.crossings.LOOK_EPOCHS", 1)


def losses_by_step(folder):
    """The training loss of seed 0 at every look."""
    steps = tuple(range(0, 61, 5))
    rows = read_table(run(folder, small_training(steps=steps))[2], TrainedCheckpoint)
    return rows[rows["seed"] == 0].set_index("step")["train_loss"]


@pytest.fixture(scope="module")
def levels(tmp_path_factory):
    """Two losses: one first reached at some look, one just above the loss of a later look."""
    every = losses_by_step(tmp_path_factory.mktemp("levels") / "all")
    return float(every[20] * 1.001), float(every[45] * 1.001), every


def test_weights_are_kept_at_the_first_evaluation_at_or_below_each_loss(tmp_path, levels):
    high, low, every = levels
    final, trajectory, table = run(tmp_path / "a", small_training(steps=(60,), losses=(low, high)))
    rows = read_table(table, TrainedCheckpoint)
    own = rows[rows["seed"] == 0]
    expected = [next(s for s in every.index if s and every[s] <= level) for level in (high, low)]
    assert own["step"].tolist() == sorted({*expected, 60})
    assert own["train_loss"].tolist() == pytest.approx(every[own["step"]].tolist())
    kept = {name.split("/")[1] for name in load_tensors(trajectory)[0] if name.startswith("seed0")}
    assert kept == {f"step{step}" for step in expected}
    assert {name.split("/")[1] for name in load_tensors(final)[0]} == {"step60"}


@pytest.mark.parametrize("survived", [1, 3, 6])
def test_killed_and_run_again_it_finds_the_same_checkpoints(
    tmp_path, monkeypatch, levels, survived
):
    experiment = small_training(steps=(0, 60), losses=levels[:2])
    whole = [path.read_bytes() for path in run(tmp_path / "whole", experiment)]
    monkeypatch.setattr("flatness.studies.chen.train.STRIDE", 10)
    monkeypatch.setattr("flatness.studies.chen.train.SAVE_SECONDS", 0.0)
    with killed_at("flatness.records.tensors.Scratch.save", survived):
        run(tmp_path / "killed", experiment)
    assert [path.read_bytes() for path in run(tmp_path / "killed", experiment)] == whole


@pytest.mark.parametrize("survived", [None, 2, 5])
def test_the_stack_finds_those_of_the_loop(tmp_path, monkeypatch, levels, survived):
    options = {"losses": levels[:2], "settings": (FAST,), "steps": (0, 20, 60)}
    monkeypatch.setattr("flatness.studies.chen.train_stacked.STRIDE", 10)
    monkeypatch.setattr("flatness.studies.chen.train_stacked.SAVE_SECONDS", 0.0)
    experiment = small_stack(**options)
    if survived:
        with killed_at("flatness.records.tensors.Scratch.save", survived):
            run_stack(tmp_path / "stack", experiment)
    files = run_stack(tmp_path / "stack", experiment)
    for part, block in ((one.training, one.block) for one in experiment.parts):
        loop = read_table(run(tmp_path / block, part, seeds=block)[2], TrainedCheckpoint)
        [path] = [p for name, p in files.items() if name.name == f"{block}.csv"]
        stacked = read_table(path, TrainedCheckpoint)
        assert stacked[["seed", "step"]].values.tolist() == loop[["seed", "step"]].values.tolist()
        assert len(loop) > len(part.steps) * loop["seed"].nunique()


def test_checkpoints_found_in_training_are_measured(tmp_path, levels):
    final, trajectory, table = run(tmp_path / "a", small_training(steps=(60,), losses=levels[:2]))
    chosen = small_measurement(steps=(60,), losses=levels[:2])
    data = write_images(tmp_path / "digits.safetensors")
    output = tmp_path / "measured.csv"
    measure_block(chosen.model_dump_json(), data, final, trajectory, table, output)
    measured = read_table(output, MeasuredCheckpoint)
    trained = read_table(table, TrainedCheckpoint)
    assert measured[["seed", "step"]].values.tolist() == trained[["seed", "step"]].values.tolist()
    assert (measured["last"] == (measured["step"] == 60)).all() and len(measured) > 2


def test_interpolation_is_a_crossing_of_its_own():
    crossings = Crossings((1e-2, 1e-3), samples=100, batch_size=20)
    assert not crossings.reached(5, 2e-2, 1.0)
    assert crossings.reached(10, 5e-4, 0.99)  # both losses at once, but not all images are right
    assert crossings.waiting
    assert not crossings.reached(15, 4e-4, 0.99)
    assert crossings.reached(20, 6e-4, 1.0)
    assert not crossings.waiting and crossings.kept == [10, 20]


def test_without_losses_nothing_is_evaluated():
    crossings = Crossings((), samples=100, batch_size=20)
    assert not crossings.waiting and len(crossings.looks(1000)) == 0


def test_evaluations_take_less_than_a_twentieth_of_the_time(monkeypatch):
    """A look is a forward pass over all images; a step is one forward and two backward."""
    monkeypatch.undo()
    for samples, batch in ((100, 20), (10_000, 8), (60_000, 32)):
        looks = Crossings((1e-3,), samples, batch).looks(100_000)
        assert len(looks) * samples / 3 <= 0.05 * 100_000 * batch


def test_a_schedule_keeps_its_losses():
    schedule = Checkpoints(schedule="logarithmic", count=12, losses=[1e-2, 1e-3])
    assert schedule.losses == (0.01, 0.001) and schedule.steps(1000)[-1] == 1000
