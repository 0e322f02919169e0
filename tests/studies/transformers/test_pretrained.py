"""What pretrained models need: a list that states its count, images, weights; else one line."""

import pytest

from flatness.errors import DataError, UserError
from flatness.studies.transformers.pretrained import pinned_tags, require_pretrained

NAMES = ["vit_tiny", "levit_small"]


@pytest.fixture
def imagenet(tmp_path):
    for number in range(1000):
        (tmp_path / "val" / f"n{number:08d}").mkdir(parents=True)
    return tmp_path / "val"


def test_a_pinned_list_of_another_length_is_refused(tmp_path):
    path = tmp_path / "models.txt"
    path.write_text("# models: 3\na\nb\n", encoding="utf-8")
    with pytest.raises(UserError, match="lists 2 models and does not say so"):
        pinned_tags(path)
    with pytest.raises(UserError, match=r"absent\.txt: cannot be read"):
        pinned_tags(tmp_path / "absent.txt")


def test_missing_images_are_named_with_what_would_have_run(tmp_path):
    absent = str(tmp_path / "nowhere")
    with pytest.raises(DataError) as error:
        require_pretrained(NAMES, absent, None, download=True)
    message = str(error.value)
    assert f"{absent}: no such folder" in message
    assert "one folder a class named by its WordNet id" in message
    assert "these would run (2): vit_tiny, levit_small" in message


def test_images_that_are_not_set_or_not_imagenet_are_refused(tmp_path):
    with pytest.raises(DataError, match="images_dir is not set"):
        require_pretrained(NAMES[:1], None, None, download=True)
    (tmp_path / "n01440764").mkdir()
    with pytest.raises(DataError, match="1 class folders, ImageNet has 1000"):
        require_pretrained(NAMES[:1], str(tmp_path), None, download=True)


def test_missing_weights_are_named_file_by_file(imagenet, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "vit_tiny.safetensors").touch()
    with pytest.raises(DataError) as error:
        require_pretrained(NAMES, str(imagenet), str(tmp_path / "weights"), download=True)
    message = str(error.value)
    assert "lacks the weights of 1 of 2 models: put there levit_small.safetensors" in message
    assert "these would run (2): vit_tiny, levit_small" in message


def test_nothing_is_downloaded_unasked(imagenet):
    with pytest.raises(DataError, match=r"set transformers\.pretrained\.download to true"):
        require_pretrained(NAMES[:1], str(imagenet), None, download=False)
    require_pretrained(NAMES[:1], str(imagenet), None, download=True)
