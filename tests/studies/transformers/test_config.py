"""Settings of the transformer study: blocks, slices, and the pinned list as models."""

import pytest

from flatness.studies.transformers.config import (
    PROJECT,
    Pretrained,
    Trained,
    TransformersSettings,
    measurement,
    training,
)
from flatness.studies.transformers.pretrained import pinned_tags
from studies.transformers.tiny_transformers import LEVIT, MEASURING, TINY_VIT, TRAINING, VIT

TRAINED = Trained(dataset="digits32", models=(VIT, TINY_VIT, LEVIT), training=TRAINING)
PUBLISHED = Pretrained(
    models_file="config/vit_models.txt", images_dir=None, weights_dir=None, download=False
)
SETTINGS = TransformersSettings(block=2, trained=TRAINED, measuring=MEASURING)


def test_blocks_cut_the_models_in_order():
    assert SETTINGS.blocks == ["0-1", "2-2"]
    assert training(SETTINGS, "0-1", "cpu").models == (VIT, TINY_VIT)
    assert measurement(SETTINGS, "2-2", "cpu").models == (LEVIT,)


def test_adding_a_model_leaves_full_blocks_alone():
    more = TRAINED.model_copy(update={"models": (*TRAINED.models, VIT)})
    larger = SETTINGS.model_copy(update={"trained": more})
    assert training(larger, "0-1", "cpu") == training(SETTINGS, "0-1", "cpu")
    assert training(larger, "2-3", "cpu") != training(SETTINGS, "2-2", "cpu")


def test_measuring_does_not_enter_training():
    changed = SETTINGS.model_copy(update={"measuring": MEASURING.model_copy(update={"images": 9})})
    assert training(changed, "0-1", "cpu") == training(SETTINGS, "0-1", "cpu")
    assert measurement(changed, "0-1", "cpu") != measurement(SETTINGS, "0-1", "cpu")


def test_a_study_has_one_source_of_models():
    with pytest.raises(ValueError, match="only one of the keys"):
        TransformersSettings(block=1, trained=TRAINED, pretrained=PUBLISHED, measuring=MEASURING)
    assert TransformersSettings(block=1, measuring=MEASURING).blocks == []


def test_names_of_models_differ():
    with pytest.raises(ValueError, match="more than once: vit_tiny"):
        Trained(dataset="digits32", models=(VIT, LEVIT, VIT), training=TRAINING)


def test_the_pinned_list_states_its_count():
    tags = pinned_tags(PROJECT / "config/vit_models.txt")
    assert len(tags) == 275
    assert all("vit" in tag for tag in tags)
    settings = TransformersSettings(block=5, pretrained=PUBLISHED, measuring=MEASURING)
    assert [model.name for model in settings.models] == tags
    assert settings.blocks[-1] == "270-274"
