"""What goes wrong outside the code ends in one line that names the file, and leaves none to trust.

Downloads cut short are in fetch/test_download, kills and twins in workflow/test_kill and test_run.
"""

import math
import shutil
import subprocess

import pytest

from flatness.__main__ import main
from flatness.pipeline.config import validate
from flatness.records.frozen import canonical_json
from flatness.records.tensors import load_tensors, save_tensors
from flatness.studies.epfl import config as epfl
from studies.chen.small_study import small_measurement, small_training, write_images
from workflow.tiny import tiny_values, write_config


def run(*arguments):
    return main([str(argument) for argument in arguments])


def said(capsys):
    """The last line of standard error, without progress bars."""
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text.strip().replace("\r", "\n").splitlines()[-1]


def mount(folder, options):
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a small file system")


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    mount(folder, "size=32k")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def read_only_disk(tmp_path):
    folder = tmp_path / "results"
    mount(folder, "ro")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def train_pool(tmp_path, output):
    data = tmp_path / "diabetes.safetensors"
    assert run("fetch", "--dataset", "diabetes", "--output", data) == 0
    settings = epfl.training(validate(tiny_values()).epfl, "fcnn", "written", "cpu")
    return run(
        "train-epfl", "--experiment", canonical_json(settings), "--data", data, "--seeds", "0-3",
        "--scratch", tmp_path / "scratch", "--output", output / "w.safetensors",
        "--table", output / "w.csv",
    )  # fmt: skip


def test_a_full_disk_leaves_no_checkpoint(tmp_path, small_disk, capsys):
    assert train_pool(tmp_path, small_disk) == 3
    assert str(small_disk / "w.safetensors: cannot be written") in said(capsys)
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_under_the_resumable_state_is_named(tmp_path, small_disk, capsys):
    data = write_images(tmp_path / "digits.safetensors")
    assert train_family(tmp_path, data, scratch=small_disk) == 3
    assert str(small_disk) in said(capsys)
    assert list(small_disk.glob("*.safetensors")) == []
    assert not (tmp_path / "final.safetensors").exists()


def test_a_results_folder_that_cannot_be_written_is_named(read_only_disk, capsys, monkeypatch):
    monkeypatch.chdir(read_only_disk.parent)
    config = write_config(read_only_disk.parent / "tiny.yaml", tiny_values())
    assert run("run", config) == 3
    assert said(capsys).startswith("error: results/tiny: cannot be written")


def test_a_file_in_place_of_the_results_folder_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").write_text("", encoding="utf-8")
    assert run("run", write_config(tmp_path / "tiny.yaml", tiny_values())) == 3
    assert said(capsys).startswith("error: results/tiny: cannot be written")


def train_family(folder, data, scratch):
    return run(
        "train-chen", "--experiment", canonical_json(small_training()), "--data", data,
        "--seeds", "0-0", "--scratch", scratch, "--final", folder / "final.safetensors",
        "--trajectory", folder / "trajectory.safetensors", "--table", folder / "training.csv",
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    data = write_images(folder / "digits.safetensors")
    assert train_family(folder, data, folder / "scratch") == 0
    return folder


@pytest.fixture
def block(trained, tmp_path):
    """A trained block, to be damaged."""
    return shutil.copytree(trained, tmp_path / "block")


def measure_family(block):
    return run(
        "measure-chen", "--experiment", canonical_json(small_measurement()),
        "--data", block / "digits.safetensors", "--final", block / "final.safetensors",
        "--trajectory", block / "trajectory.safetensors", "--training", block / "training.csv",
        "--output", block / "measured.csv",
    )  # fmt: skip


def test_the_block_is_measured_while_whole(block):
    assert measure_family(block) == 0
    assert (block / "measured.csv").exists()


def test_a_corrupt_checkpoint_is_named(block, capsys):
    path = block / "final.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert measure_family(block) == 3
    assert f"{path}: damaged" in said(capsys)
    assert not (block / "measured.csv").exists()


def test_a_table_that_lacks_a_column_is_named(block, capsys):
    path = block / "training.csv"
    path.write_text(
        path.read_text(encoding="utf-8").replace("test_loss", "test_lost"), encoding="utf-8"
    )
    assert measure_family(block) == 3
    assert f"{path}: columns missing: ['test_loss']" in said(capsys)
    assert not (block / "measured.csv").exists()


def test_a_weight_that_is_not_a_number_is_named_with_its_file(block, capsys):
    path = block / "final.safetensors"
    tensors, metadata = load_tensors(path)
    next(iter(tensors.values()))[0] = math.nan
    save_tensors(path, tensors, metadata)
    assert measure_family(block) == 4
    line = said(capsys)
    assert f"{path}: seed0/step60: " in line
    assert "is not finite" in line
    assert not (block / "measured.csv").exists()
