"""Settings of the transformer study: slices, the pinned list, and what pretrained models need."""

import pytest

from flatness.errors import DataError, UserError
from flatness.transformers.config import (
    PROJECT,
    Pretrained,
    Trained,
    TransformersSettings,
    measurement,
    pinned_models,
    require_pretrained,
    training,
)
from tiny_transformers import LEVIT, MEASURING, TINY_VIT, TRAINING, VIT

TRAINED = Trained(dataset="digits32", models=(VIT, TINY_VIT, LEVIT), training=TRAINING)
SETTINGS = TransformersSettings(block=2, trained=TRAINED, measuring=MEASURING)


@pytest.fixture
def imagenet(tmp_path):
    for number in range(1000):
        (tmp_path / "val" / f"n{number:08d}").mkdir(parents=True)
    return tmp_path / "val"


def test_blocks_cut_the_models_in_order():
    assert SETTINGS.blocks == ["0-1", "2-2"]
    assert training(SETTINGS, "0-1", "cpu").models == (VIT, TINY_VIT)
    assert measurement(SETTINGS, "2-2", "cpu").models == (LEVIT,)


def test_a_model_more_leaves_full_blocks_alone():
    more = TRAINED.model_copy(update={"models": (*TRAINED.models, VIT)})
    larger = SETTINGS.model_copy(update={"trained": more})
    assert training(larger, "0-1", "cpu") == training(SETTINGS, "0-1", "cpu")
    assert training(larger, "2-3", "cpu") != training(SETTINGS, "2-2", "cpu")


def test_measuring_does_not_enter_training():
    changed = SETTINGS.model_copy(update={"measuring": MEASURING.model_copy(update={"images": 9})})
    assert training(changed, "0-1", "cpu") == training(SETTINGS, "0-1", "cpu")
    assert measurement(changed, "0-1", "cpu") != measurement(SETTINGS, "0-1", "cpu")


def test_a_study_has_one_source_of_models():
    published = Pretrained(
        models_file="config/vit_models.txt", images_dir=None, weights_dir=None, download=False
    )
    with pytest.raises(ValueError, match="exactly one of the keys"):
        TransformersSettings(block=1, trained=TRAINED, pretrained=published, measuring=MEASURING)
    with pytest.raises(ValueError, match="exactly one of the keys"):
        TransformersSettings(block=1, measuring=MEASURING)


def test_names_of_models_differ():
    with pytest.raises(ValueError, match="more than once: vit_tiny"):
        Trained(dataset="digits32", models=(VIT, LEVIT, VIT), training=TRAINING)


def test_the_pinned_list_states_its_count():
    models = pinned_models(PROJECT / "config/vit_models.txt")
    assert len(models) == 275
    assert all("vit" in model.name for model in models)


def test_a_pinned_list_of_another_length_is_refused(tmp_path):
    path = tmp_path / "models.txt"
    path.write_text("# models: 3\na\nb\n")
    with pytest.raises(UserError, match="lists 2 models and does not say so"):
        pinned_models(path)
    with pytest.raises(UserError, match=r"absent\.txt: cannot be read"):
        pinned_models(tmp_path / "absent.txt")


def test_missing_images_are_named_with_what_would_have_run(tmp_path):
    absent = str(tmp_path / "nowhere")
    with pytest.raises(DataError) as error:
        require_pretrained((VIT, LEVIT), absent, None, download=True)
    message = str(error.value)
    assert f"{absent}: no such folder" in message
    assert "one folder a class named by its WordNet id" in message
    assert "these would run (2): vit_tiny, levit_small" in message


def test_images_that_are_not_set_or_not_imagenet_are_refused(tmp_path):
    with pytest.raises(DataError, match="images_dir is not set"):
        require_pretrained((VIT,), None, None, download=True)
    (tmp_path / "n01440764").mkdir()
    with pytest.raises(DataError, match="1 class folders, ImageNet has 1000"):
        require_pretrained((VIT,), str(tmp_path), None, download=True)


def test_missing_weights_are_named_file_by_file(imagenet, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "vit_tiny.safetensors").touch()
    with pytest.raises(DataError) as error:
        require_pretrained((VIT, LEVIT), str(imagenet), str(tmp_path / "weights"), download=True)
    message = str(error.value)
    assert "lacks the weights of 1 of 2 models: put there levit_small.safetensors" in message
    assert "these would run (2): vit_tiny, levit_small" in message


def test_nothing_is_downloaded_unasked(imagenet):
    with pytest.raises(DataError, match=r"set transformers\.pretrained\.download to true"):
        require_pretrained((VIT,), str(imagenet), None, download=False)
    require_pretrained((VIT,), str(imagenet), None, download=True)
