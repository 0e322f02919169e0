import os
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from flatness.datasets.normalised import (
    Dataset,
    abalone_split,
    load,
    save,
    scale_pixels,
    standardise,
    subset_classes_and_size,
)
from flatness.errors import DataError, UserError


def images(per_class=(30, 20, 25), test_per_class=4, demo=False) -> Dataset:
    """Images in random order whose pixels say which image it is."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(len(per_class))
    train = labels.repeat_interleave(torch.tensor(per_class))
    train = train[torch.randperm(len(train), generator=generator)]
    test = labels.repeat(test_per_class)
    numbered = torch.arange(200, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    tensors = {
        "train_inputs": numbered[: len(train)].contiguous(),
        "train_targets": train,
        "test_inputs": numbered[: len(test)].contiguous(),
        "test_targets": test,
    }
    return Dataset("toy", demo, tensors)


def table() -> Dataset:
    tensors = {"inputs": torch.rand(5, 10).double(), "targets": torch.rand(5, 1).double()}
    return Dataset("toy", True, tensors, {"a.bin": "sha256:00"})


def test_saved_data_set_is_loaded_unchanged(tmp_path):
    for dataset in (images(), table()):
        save(tmp_path / "d.safetensors", dataset)
        loaded = load(tmp_path / "d.safetensors")
        assert (loaded.name, loaded.demo, loaded.sources) == (
            dataset.name,
            dataset.demo,
            dataset.sources,
        )
        assert loaded.tensors.keys() == dataset.tensors.keys()
        for name, tensor in dataset.tensors.items():
            assert loaded.tensors[name].dtype == tensor.dtype
            assert torch.equal(loaded.tensors[name], tensor)


def test_missing_damaged_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "d.safetensors"
    with pytest.raises(DataError, match=r"d\.safetensors: no such file"):
        load(path)
    save(path, table())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"d\.safetensors: damaged"):
        load(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(DataError, match=r"d\.safetensors: not a data set"):
        load(path)
    save_file(dict(table().tensors), path)
    with pytest.raises(DataError, match=r"d\.safetensors: not a data set"):
        load(path)


class Evil:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_pickle_in_place_of_a_data_file_is_not_run(tmp_path):
    path = tmp_path / "d.safetensors"
    path.write_bytes(pickle.dumps(Evil(f"touch '{tmp_path}/created'")))
    with pytest.raises(DataError, match=r"d\.safetensors: damaged"):
        load(path)
    assert not (tmp_path / "created").exists()


@given(
    classes=st.none() | st.sets(st.integers(0, 2), min_size=1),
    train_size=st.integers(1, 75),
    seed=st.integers(0, 9),
)
def test_subset_is_balanced_nested_and_deterministic(classes, train_size, seed):
    whole = images()
    available = sum((30, 20, 25)[label] for label in classes or range(3))
    if train_size > available:
        with pytest.raises(UserError, match=f"train_size {train_size} .* {available} training"):
            subset_classes_and_size(whole, classes, train_size, seed)
        return
    part = subset_classes_and_size(whole, classes, train_size, seed).tensors
    again = subset_classes_and_size(whole, classes, train_size, seed).tensors
    larger = subset_classes_and_size(whole, classes, available, seed).tensors
    assert all(torch.equal(part[key], again[key]) for key in part)

    numbers = part["train_inputs"][:, 0, 0, 0].long()
    assert len(numbers) == train_size and (numbers.diff() > 0).all()
    assert torch.equal(part["train_targets"], whole.tensors["train_targets"][numbers])
    assert set(numbers.tolist()) <= set(larger["train_inputs"][:, 0, 0, 0].tolist())

    counts = part["train_targets"].bincount(minlength=3).tolist()
    kept = sorted(classes or range(3))
    assert all(counts[label] == 0 for label in range(3) if label not in kept)
    most = max(counts)
    for label in kept:
        assert counts[label] >= most - 1 or counts[label] == (30, 20, 25)[label]
    assert part["test_targets"].bincount(minlength=3).tolist() == [
        4 if label in kept else 0 for label in range(3)
    ]


def test_subset_of_everything_is_everything():
    whole = images()
    part = subset_classes_and_size(whole)
    assert (part.name, part.demo) == (whole.name, whole.demo)
    assert all(torch.equal(part.tensors[key], whole.tensors[key]) for key in whole.tensors)


def test_other_seeds_draw_other_images():
    drawn = {
        tuple(
            subset_classes_and_size(images(), None, 10, seed)
            .tensors["train_inputs"]
            .flatten()
            .tolist()
        )
        for seed in range(5)
    }
    assert len(drawn) == 5


@pytest.mark.parametrize("classes", [[0, 3], [-1], []])
def test_classes_that_do_not_occur_are_refused(classes):
    with pytest.raises(UserError, match=r"toy: classes .* asked for, there are \[0, 1, 2\]"):
        subset_classes_and_size(images(), classes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_are_scaled_to_one(dtype):
    scaled = scale_pixels(torch.tensor([[0, 51, 255]], dtype=torch.uint8), dtype)
    assert scaled.dtype == dtype
    assert torch.equal(scaled, torch.tensor([[0, 0.2, 1]], dtype=dtype))


@pytest.mark.parametrize("rows", [4177, 4176, 442, 11])
def test_abalone_split_is_that_of_scikit_learn(rows):
    expected = train_test_split(torch.arange(rows).numpy(), test_size=0.2, random_state=42)
    for found, wanted in zip(abalone_split(rows), expected, strict=True):
        assert found.tolist() == wanted.tolist()


def test_standardise_is_that_of_scikit_learn_on_the_training_rows():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(50, 4, generator=generator, dtype=torch.float64) * 7 + 2
    inputs[:, 2] = 5
    targets = torch.rand(50, 1, generator=generator, dtype=torch.float64) - 9
    train = torch.arange(3, 40)
    for found, raw in zip(standardise(inputs, targets, train), (inputs, targets), strict=True):
        wanted = torch.tensor(StandardScaler().fit(raw[train]).transform(raw.numpy()))
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_test_rows_do_not_move_the_standardisation():
    inputs, targets = torch.rand(10, 3), torch.rand(10, 1)
    moved = inputs.clone()
    moved[8:] += 100
    train = torch.arange(8)
    assert torch.equal(
        standardise(inputs, targets, train)[0][:8], standardise(moved, targets, train)[0][:8]
    )
