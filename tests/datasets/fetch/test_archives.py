import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from datasets.fetch.publisher import CONTENT, IN_LAYOUT, files_under, sha256, toy
from flatness.datasets.fetch import copy_downloaded, extract
from flatness.errors import DataError


def archive_of(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> str:
    """Writes a tar.gz, links first; returns its checksum."""
    with tarfile.open(path, "w:gz") as tar:
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return "md5:" + hashlib.md5(path.read_bytes()).hexdigest()


def test_archive_is_downloaded_once_and_unpacked_into_the_mirror_layout(publisher, tmp_path):
    checksum = archive_of(tmp_path / "toy.tar.gz", IN_LAYOUT | {"toy/readme.html": b"not wanted"})
    publisher.serve("toy.tar.gz", (tmp_path / "toy.tar.gz").read_bytes())
    source = replace(toy(publisher.address + "toy.tar.gz"), archive=checksum)
    for private in ("first", "second"):
        copy_downloaded(source, tmp_path / "raw", tmp_path / private)
        assert files_under(tmp_path / "raw") == files_under(tmp_path / private) == IN_LAYOUT
    assert publisher.requests == ["/toy.tar.gz"]


def test_archive_with_a_wrong_checksum_is_not_opened(publisher, tmp_path):
    archive_of(tmp_path / "toy.tar.gz", IN_LAYOUT)
    publisher.serve("toy.tar.gz", (tmp_path / "toy.tar.gz").read_bytes())
    source = replace(toy(publisher.address + "toy.tar.gz"), archive="md5:" + "0" * 32)
    with pytest.raises(DataError, match=r"not the published file.*expected md5:0000"):
        copy_downloaded(source, tmp_path / "raw", tmp_path / "private")
    assert files_under(tmp_path / "raw") == {}


def test_archive_cannot_write_outside_its_folder(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    traps = {
        "../escaped": b"x",
        "toy/../../escaped": b"x",
        "toy/sub/../a.bin": b"x",
        str(outside / "absolute"): b"x",
        "linked/a.bin": b"x",
    }
    archive_of(
        tmp_path / "t.tar.gz", traps | IN_LAYOUT, links={"toy": str(outside), "linked": ".."}
    )
    folder = tmp_path / "deep" / "raw" / "toy"
    extract(tmp_path / "t.tar.gz", toy("unused"), folder)
    assert files_under(folder) == CONTENT
    assert files_under(tmp_path / "deep") == {f"raw/toy/{name}": CONTENT[name] for name in CONTENT}
    assert list(outside.iterdir()) == []


def test_archive_whose_member_is_a_link_is_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT["a.bin"])
    members = {"toy/b.bin": CONTENT["b.bin"]}
    archive_of(tmp_path / "t.tar.gz", members, links={"toy/a.bin": str(secret)})
    with pytest.raises(DataError, match=r"t\.tar\.gz: lacks toy/a.bin"):
        extract(tmp_path / "t.tar.gz", toy("unused"), tmp_path / "toy")
    assert files_under(tmp_path / "toy") == {"b.bin": CONTENT["b.bin"]}


def test_tampered_archive_member_is_not_written(tmp_path):
    archive_of(tmp_path / "t.tar.gz", {"toy/a.bin": b"tampered", "toy/b.bin": CONTENT["b.bin"]})
    with pytest.raises(DataError, match=f"member a.bin is not .*found {sha256(b'tampered')}"):
        extract(tmp_path / "t.tar.gz", toy("unused"), tmp_path / "toy")
    assert not (tmp_path / "toy" / "a.bin").exists()


def test_damaged_archive_is_one_line(tmp_path):
    archive_of(tmp_path / "whole.tar.gz", IN_LAYOUT)
    content = (tmp_path / "whole.tar.gz").read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"half\.tar\.gz: a damaged archive"):
        extract(tmp_path / "half.tar.gz", toy("unused"), tmp_path / "toy")
