import os
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

from flatness.datasets import DATASETS, module_of
from flatness.datasets.fetch import fetch
from flatness.datasets.normalised import load

MIRROR = os.environ.get("FLATNESS_DATA_MIRROR")
needs_mirror = pytest.mark.skipif(
    not MIRROR, reason="FLATNESS_DATA_MIRROR names no mirror of the published data"
)


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """Fetches a data set from the mirror and loads it."""

    def get(name: str):
        path = tmp_path_factory.mktemp("data") / f"{name}.safetensors"
        fetch(name, path)
        dataset = load(path)
        path.unlink()
        assert (dataset.name, dataset.demo) == (name, False)
        assert dataset.sources == import_module(module_of(name)).SOURCE.files
        return dataset.tensors

    return get


def test_each_data_set_is_made_or_read_from_files_with_strong_checksums():
    modules = [import_module(module_of(name)) for name in DATASETS]
    assert all(hasattr(m, "make") != (hasattr(m, "SOURCE") and hasattr(m, "read")) for m in modules)
    published = [module.SOURCE for module in modules if hasattr(module, "SOURCE")]
    assert published
    for source in published:
        for name, checksum in source.files.items():
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", checksum), name
            assert Path(name).name == name


@needs_mirror
def test_abalone_is_the_published_table(fetched):
    tensors = fetched("abalone")
    inputs, targets = tensors["inputs"], tensors["targets"]
    assert inputs.shape == (4177, 10) and targets.shape == (4177, 1)
    assert inputs.dtype == targets.dtype == torch.float64
    # The file's first line: M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,15
    assert inputs[0].tolist() == [1, 0, 0, 0.455, 0.365, 0.095, 0.514, 0.2245, 0.101, 0.15]
    assert targets[0].item() == 15
    assert inputs[:, :3].sum(0).tolist() == [1528, 1307, 1342]
    assert torch.equal(inputs[:, :3].sum(1), torch.ones(4177, dtype=torch.float64))
    # UCI's description of the data gives mean and standard deviation of the rings.
    assert round(targets.mean().item(), 3) == 9.934
    assert round(targets.std().item(), 3) == 3.224


@needs_mirror
def test_cora_is_the_public_split(fetched):
    tensors = fetched("cora")
    assert tensors["inputs"].shape == (2708, 1433) and tensors["inputs"].dtype == torch.uint8
    assert tensors["inputs"].unique().tolist() == [0, 1]
    assert tensors["targets"].bincount().tolist() == [351, 217, 418, 818, 426, 298, 180]
    edges = tensors["edge_index"]
    assert edges.shape == (2, 10556) and edges.dtype == torch.int64
    assert set(map(tuple, edges.T.tolist())) == set(map(tuple, edges.flip(0).T.tolist()))
    masks = [tensors[f"{part}_mask"] for part in ("train", "val", "test")]
    assert [mask.sum().item() for mask in masks] == [140, 500, 1000]
    assert torch.stack(masks).sum(0).max() == 1
    assert tensors["targets"][masks[0]].bincount().tolist() == [20] * 7


@needs_mirror
def test_fashion_mnist_has_the_published_moments(fetched):
    tensors = fetched("fashion_mnist")
    images = tensors["train_inputs"]
    assert images.shape == (60000, 1, 28, 28) and images.dtype == torch.uint8
    assert tensors["test_inputs"].shape == (10000, 1, 28, 28)
    assert tensors["train_targets"].bincount().tolist() == [6000] * 10
    assert tensors["test_targets"].bincount().tolist() == [1000] * 10
    pixels = images.double() / 255
    assert round(pixels.mean().item(), 4) == 0.2860
    assert round(pixels.std().item(), 4) == 0.3530


@needs_mirror
def test_cifar10_has_the_published_moments(fetched):
    tensors = fetched("cifar10")
    images = tensors["train_inputs"]
    assert images.shape == (50000, 3, 32, 32) and images.dtype == torch.uint8
    assert tensors["test_inputs"].shape == (10000, 3, 32, 32)
    assert tensors["train_targets"].bincount().tolist() == [5000] * 10
    assert tensors["test_targets"].bincount().tolist() == [1000] * 10
    # Channel means that everyone normalises by; rows and columns are not mixed up: neighbours
    # along either axis are alike.
    part = images[:5000].double() / 255
    means = torch.stack([images[:, channel].double().mean() / 255 for channel in range(3)])
    assert [round(mean, 4) for mean in means.tolist()] == [0.4914, 0.4822, 0.4465]
    assert part.diff(dim=2).abs().mean() < 0.08
    assert part.diff(dim=3).abs().mean() < 0.08
