"""Images as models see them."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from flatness.studies.transformers.images import (
    draw_index,
    endless_batches,
    imagenet_images,
    small_images,
)
from studies.transformers.tiny_transformers import striped_images


def test_training_images_have_mean_zero_and_deviation_one():
    images = small_images(striped_images(), "train", None, "cpu")
    inputs, labels = images.take(torch.arange(len(images)))
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.std((0, 2, 3), correction=0), torch.ones(3))
    assert labels.tolist() == [i % 4 for i in range(60)]


def test_test_images_are_normalised_by_the_training_images():
    dataset = striped_images()
    inputs, _ = small_images(dataset, "test", None, "cpu").take(torch.tensor([3]))
    train = dataset.tensors["train_inputs"].double() / 255
    expected = dataset.tensors["test_inputs"][[3]].double() / 255
    expected = (expected - train.mean((0, 2, 3), keepdim=True)) / train.std(
        (0, 2, 3), keepdim=True, correction=0
    )
    torch.testing.assert_close(inputs.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_images_take_the_models_size(size):
    inputs, _ = small_images(striped_images(), "test", size, "cpu").take(torch.arange(2))
    assert inputs.shape == (2, 3, size, size)


def test_every_model_sees_the_same_images():
    small = small_images(striped_images(), "test", 8, "cpu")
    large = small_images(striped_images(), "test", 32, "cpu")
    index = draw_index(small, 5, seed=0)
    assert torch.equal(index, draw_index(large, 5, seed=0))
    assert torch.equal(index, draw_index(small, 9, seed=0)[:5])
    assert sorted(draw_index(small, None, seed=0).tolist()) == list(range(20))
    assert len(draw_index(small, 99, seed=0)) == 20


def test_a_folder_of_classes_goes_through_the_models_transform(tmp_path):
    for name, shade in (("n02", 200), ("n01", 20)):
        (tmp_path / name).mkdir()
        pixels = np.full((40, 60, 3), shade, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
    module = nn.Identity()
    module.pretrained_cfg = {
        "input_size": (3, 24, 24),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
    }
    inputs, labels = imagenet_images(tmp_path, module, "cpu").take(torch.tensor([1, 0]))
    assert inputs.shape == (2, 3, 24, 24)
    assert labels.tolist() == [1, 0]
    shades = (torch.tensor([200.0, 20.0]) / 255 - 0.5) / 0.25
    torch.testing.assert_close(inputs.mean((1, 2, 3)), shades, rtol=1e-4, atol=1e-4)


def test_endless_batches_repeat_no_image_before_its_turn():
    images = small_images(striped_images(), "test", 8, "cpu")
    drawn = endless_batches(images, 6, seed=0)
    first = torch.cat([next(drawn)[0] for _ in range(3)])
    second = torch.cat([next(drawn)[0] for _ in range(3)])
    assert torch.equal(first, images.take(draw_index(images, 18, seed=0))[0])
    assert len(torch.unique(second.flatten(1), dim=0)) == 18
    assert not torch.equal(first, second)
    assert len(next(endless_batches(images, 99, seed=0))[1]) == 20
