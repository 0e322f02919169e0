"""Atomic files, tensor files, resumable scratch state."""

import multiprocessing
import time

import pytest
import torch

from flatness.errors import DataError
from flatness.records.files import atomic_path
from flatness.records.tensors import Scratch, load_tensors, save_tensors


def test_atomic_path_leaves_nothing_behind_on_failure(tmp_path):
    target = tmp_path / "folder" / "a.txt"
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("half", encoding="utf-8")
        _ = 1 / 0
    assert list(target.parent.iterdir()) == []


def test_atomic_path_keeps_the_old_file_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old", encoding="utf-8")
    with atomic_path(target) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert target.read_text(encoding="utf-8") == "old"
    assert target.read_text(encoding="utf-8") == "new"


def test_atomic_path_names_the_file_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    target = tmp_path / "file" / "a.txt"
    with pytest.raises(DataError, match=r"file.a\.txt"), atomic_path(target):
        pass


def test_tensors_survive_the_round_trip(tmp_path):
    tensors = {"a": torch.randn(3, 4, dtype=torch.float64).T, "b": torch.arange(3)}
    save_tensors(tmp_path / "t.safetensors", tensors, {"seed": 3, "name": "ρ"})
    loaded, metadata = load_tensors(tmp_path / "t.safetensors")
    assert metadata == {"seed": 3, "name": "ρ"}
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("keep", [0, 5, 40])
def test_a_truncated_tensor_file_is_named(tmp_path, keep):
    path = tmp_path / "t.safetensors"
    save_tensors(path, {"a": torch.ones(100)}, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"t\.safetensors: damaged"):
        load_tensors(path)


def test_scratch_keeps_state_of_the_same_experiment_only(tmp_path):
    with Scratch(tmp_path, "one") as scratch:
        scratch.save("state", {"a": torch.ones(2)}, {"step": 7})
    with Scratch(tmp_path, "one") as scratch:
        assert scratch.load("state")[1] == {"step": 7}
        assert scratch.load("other") is None
    with Scratch(tmp_path, "two") as scratch:
        assert scratch.load("state") is None


def test_scratch_drops_damaged_state(tmp_path):
    with Scratch(tmp_path, "one") as scratch:
        scratch.save("state", {"a": torch.ones(2)}, {})
        (tmp_path / "state.safetensors").write_bytes(b"half")
        assert scratch.load("state") is None
        assert not (tmp_path / "state.safetensors").exists()


def _hold(folder, seconds, held):
    with Scratch(folder, "one"):
        held.set()
        time.sleep(seconds)


def test_a_twin_waits_for_the_lock(tmp_path):
    held = multiprocessing.Event()
    twin = multiprocessing.Process(target=_hold, args=(tmp_path, 1.0, held))
    twin.start()
    assert held.wait(30)
    start = time.monotonic()
    with Scratch(tmp_path, "one"):
        waited = time.monotonic() - start
    twin.join()
    assert waited > 0.5
