import shutil
from pathlib import Path

import pytest

from flatness.pipeline import code_version as module
from flatness.pipeline.code_version import code_version

TRAINING = "flatness.studies.chen.train"


@pytest.fixture
def library(tmp_path, monkeypatch) -> Path:
    """A copy of the library that a test may edit."""
    shutil.copytree(module.LIBRARY / "flatness", tmp_path / "flatness")
    monkeypatch.setattr(module, "LIBRARY", tmp_path)
    yield tmp_path / "flatness"
    forget()


def forget():
    module.code_version.cache_clear()
    module._syntax_tree.cache_clear()


def after(path: Path, old: str, new: str) -> dict[str, str]:
    """Versions of each network's training once a file was edited."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return versions()


def versions() -> dict[str, str]:
    forget()
    names = ("lenet5", "mlp", "vgg11")
    return {name: code_version(TRAINING, f"flatness.networks.{name}") for name in names}


def test_a_network_more_changes_no_other(library):
    before = versions()
    (library / "networks" / "tiny.py").write_text("def tiny():\n    return 1\n", encoding="utf-8")
    assert versions() == before


def test_a_data_set_more_changes_no_other(library):
    cifar10 = ("flatness.datasets.fetch", "flatness.datasets.images.cifar10")
    before = versions(), code_version(*cifar10)
    (library / "datasets" / "images" / "tiny.py").write_text(
        "def make():\n    return {}\n", encoding="utf-8"
    )
    assert (versions(), code_version(*cifar10)) == before
    path = library / "datasets" / "images" / "cifar10.py"
    edited = after(path, "permute(0, 3, 1, 2)", "permute(0, 3, 2, 1)")
    assert edited == before[0] and code_version(*cifar10) != before[1]


def test_an_edited_network_changes_itself_alone(library):
    before = versions()
    edited = after(library / "networks" / "vgg11.py", "padding=2", "padding=1")
    assert edited.pop("vgg11") != before.pop("vgg11")
    assert edited == before


def test_what_training_imports_counts_and_what_it_says_does_not(library):
    before = versions()
    images = library / "studies/chen/images.py"
    assert after(images, "CHUNK = 1000", "CHUNK = 1000  # why") == before
    assert after(images, "computed in chunks", "in parts") == before
    edited = after(images, "CHUNK = 1000", "CHUNK = 2000")
    assert all(edited[name] != before[name] for name in before)
