import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from datasets.fetch.publisher import lay_out, toy
from flatness.datasets import DATASETS
from flatness.datasets.fetch import fetch
from flatness.datasets.graph import cora
from flatness.datasets.images import cifar10
from flatness.errors import DataError


class Evil:
    """Unpickles by creating a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_the_evil_pickle_of_these_tests_would_run(tmp_path):
    pickle.loads(pickle.dumps(Evil(tmp_path / "created"))).close()
    assert (tmp_path / "created").exists()


@pytest.mark.parametrize(("name", "source"), [("cora", cora.SOURCE), ("cifar10", cifar10.SOURCE)])
def test_tampered_pickles_are_refused_before_loading(tmp_path, name, source, monkeypatch):
    monkeypatch.delenv("FLATNESS_DATA_MIRROR", raising=False)
    evil = pickle.dumps(Evil(tmp_path / "created"))
    mirror = lay_out(tmp_path / "mirror", dict.fromkeys(source.files, evil), source.folder)
    cache = lay_out(tmp_path / "raw", dict.fromkeys(source.files, evil), source.folder)
    for options in ({"mirror": str(mirror)}, {"raw": cache}):
        with pytest.raises(DataError, match="not the published file"):
            fetch(name, tmp_path / "out.safetensors", **options)
    assert not (tmp_path / "created").exists()
    assert not (tmp_path / "out.safetensors").exists()


def unpickle_all(root: Path) -> dict[str, torch.Tensor]:
    for path in sorted((root / "toy").iterdir()):
        pickle.loads(path.read_bytes())
    return {"inputs": torch.zeros(1, 1), "targets": torch.zeros(1, 1)}


def offer(monkeypatch, content, read) -> None:
    """Makes "toy" a table of that content."""
    module = SimpleNamespace(SOURCE=toy("unused", content), read=read)
    monkeypatch.setitem(sys.modules, "flatness.datasets.table.toy", module)
    monkeypatch.setitem(DATASETS, "toy", "table")


def test_one_tampered_pickle_among_good_ones_is_refused_before_any_is_loaded(tmp_path, monkeypatch):
    good = {name: pickle.dumps(Evil(tmp_path / f"loaded {name}")) for name in ("1", "2", "3")}
    offer(monkeypatch, good, unpickle_all)
    mirror = lay_out(tmp_path / "mirror", good | {"3": pickle.dumps(Evil(tmp_path / "evil"))})
    with pytest.raises(DataError, match="mirror/toy/3: not the published file"):
        fetch("toy", tmp_path / "out.safetensors", mirror=str(mirror))
    assert [path.name for path in tmp_path.iterdir()] == ["mirror"]

    lay_out(mirror, good)
    fetch("toy", tmp_path / "out.safetensors", mirror=str(mirror))
    assert (tmp_path / "loaded 3").exists(), "untampered, the same pickles are loaded"


def test_what_is_loaded_is_what_was_checked(tmp_path, monkeypatch):
    good = {"1": pickle.dumps("harmless")}
    mirror = lay_out(tmp_path / "mirror", good)

    def swap_then_load(root: Path) -> dict[str, torch.Tensor]:
        lay_out(mirror, {"1": pickle.dumps(Evil(tmp_path / "created"))})
        return unpickle_all(root)

    offer(monkeypatch, good, swap_then_load)
    fetch("toy", tmp_path / "out.safetensors", mirror=str(mirror))
    assert not (tmp_path / "created").exists()
