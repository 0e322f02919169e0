import pytest

from datasets.fetch.publisher import CONTENT, files_under, lay_out, sha256, toy
from flatness.datasets.fetch import copy_mirrored
from flatness.errors import DataError


def test_wrong_file_in_a_mirror_is_named_and_left(tmp_path):
    mirror = lay_out(tmp_path / "mirror", CONTENT | {"b.bin": b"tampered"})
    before = files_under(mirror)
    with pytest.raises(DataError) as caught:
        copy_mirrored(toy("unused"), mirror, tmp_path / "private")
    message = str(caught.value)
    for part in (mirror / "toy" / "b.bin", sha256(CONTENT["b.bin"]), sha256(b"tampered")):
        assert str(part) in message
    assert files_under(mirror) == before
    assert "toy/b.bin" not in files_under(tmp_path / "private")


def test_file_missing_in_a_mirror_is_named(tmp_path):
    mirror = lay_out(tmp_path / "mirror", {"a.bin": CONTENT["a.bin"]})
    with pytest.raises(DataError, match=r"mirror/toy/b\.bin: No such file.*FLATNESS_DATA_MIRROR"):
        copy_mirrored(toy("unused"), mirror, tmp_path / "private")
