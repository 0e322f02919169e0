import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datasets.fetch.publisher import CONTENT, CUT, IN_LAYOUT, SHORT, STALL, files_under, sha256, toy
from flatness.datasets import sources
from flatness.datasets.fetch import copy_downloaded, copy_mirrored
from flatness.errors import DataError


def test_download_keeps_files_in_the_mirror_layout(publisher, tmp_path, capsys):
    for name, data in CONTENT.items():
        publisher.serve(name, data)
    copy_downloaded(toy(publisher.address), tmp_path / "raw", tmp_path / "first")
    assert files_under(tmp_path / "raw") == files_under(tmp_path / "first") == IN_LAYOUT
    assert "100%" in capsys.readouterr().err

    copy_downloaded(toy(publisher.address), tmp_path / "raw", tmp_path / "second")
    assert publisher.requests == ["/a.bin", "/b.bin"], "files that are here are not fetched again"

    copy_mirrored(toy("unused"), tmp_path / "raw", tmp_path / "third")
    assert files_under(tmp_path / "second") == files_under(tmp_path / "third") == IN_LAYOUT


@pytest.mark.parametrize("first", [503, CUT, SHORT, b"something else"])
def test_retry_succeeds_where_the_first_try_fails(publisher, tmp_path, first):
    publisher.serve("a.bin", CONTENT["a.bin"], first, 200)
    publisher.serve("b.bin", CONTENT["b.bin"])
    copy_downloaded(toy(publisher.address), tmp_path / "raw", tmp_path / "private")
    assert publisher.requests == ["/a.bin", "/a.bin", "/b.bin"]
    assert files_under(tmp_path / "raw") == IN_LAYOUT


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (404, "the server answers 404"),
        (CUT, "IncompleteRead"),
        (SHORT, hashlib.sha256(CONTENT["b.bin"][:14000]).hexdigest()),
        (b"something else", hashlib.sha256(b"something else").hexdigest()),
    ],
)
def test_failed_download_leaves_no_file_to_trust(publisher, tmp_path, answer, said, capsys):
    publisher.serve("a.bin", CONTENT["a.bin"])
    publisher.serve("b.bin", CONTENT["b.bin"], answer)
    with pytest.raises(DataError) as caught:
        copy_downloaded(toy(publisher.address), tmp_path / "raw", tmp_path / "private")
    assert capsys.readouterr().err.endswith("\n"), "the progress bar's line is ended"
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "raw" / "toy" / "b.bin") in message
    assert said in message
    assert "data.mirror" in message and "FLATNESS_DATA_MIRROR" in message
    if answer not in (404, CUT):
        assert sha256(CONTENT["b.bin"]) in message
    assert files_under(tmp_path / "raw") == {"toy/a.bin": CONTENT["a.bin"]}


def test_damaged_file_in_the_cache_is_removed_and_nothing_else(publisher, tmp_path):
    for name, data in CONTENT.items():
        publisher.serve(name, data)
    source, raw = toy(publisher.address), tmp_path / "raw"
    copy_downloaded(source, raw, tmp_path / "private")
    (raw / "toy" / "b.bin").write_bytes(b"tampered")
    (raw / "toy" / "note.txt").write_text("the user's own", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        copy_downloaded(source, raw, tmp_path / "private")
    message = str(caught.value)
    for part in (raw / "toy" / "b.bin", source.files["b.bin"], sha256(b"tampered"), "data.mirror"):
        assert str(part) in message
    assert set(files_under(raw)) == {"toy/a.bin", "toy/note.txt"}

    copy_downloaded(source, raw, tmp_path / "private")
    assert files_under(tmp_path / "private") == IN_LAYOUT


def test_kill_in_the_middle_of_a_download_leaves_no_file_to_trust(publisher, tmp_path):
    publisher.serve("a.bin", CONTENT["a.bin"], STALL, 200)
    publisher.serve("b.bin", CONTENT["b.bin"])
    source, raw = toy(publisher.address), tmp_path / "raw"
    script = (
        "from pathlib import Path; from flatness.datasets.fetch import copy_downloaded; "
        "from flatness.datasets.sources import Source; "
        f"copy_downloaded({source!r}, Path({str(raw)!r}), Path({str(tmp_path / 'private')!r}))"
    )
    library = str(Path(sources.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": library, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    while not publisher.requests or not list((raw / "toy").glob("tmp*")):
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not {"toy/a.bin", "toy/b.bin"} & set(files_under(raw))
    assert files_under(raw), "the kill came in the middle: a partial file is there"

    copy_downloaded(source, raw, tmp_path / "private")
    assert files_under(raw) == files_under(tmp_path / "private") == IN_LAYOUT


def test_cache_that_cannot_be_written_is_one_line(publisher, tmp_path):
    (tmp_path / "raw").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(DataError, match=f"{tmp_path}/raw/toy: cannot keep downloads here: Not a"):
        copy_downloaded(toy(publisher.address), tmp_path / "raw", tmp_path / "private")
