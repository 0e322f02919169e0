import hashlib
import io
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import deque
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pooch.core
import pytest
import torch

from flatness import published_data
from flatness import sources as sources_module
from flatness.__main__ import main
from flatness.data import load
from flatness.errors import DataError, UserError
from flatness.fetch import copy_downloaded, copy_mirrored, extract, fetch
from flatness.sources import PUBLISHED, Source

CONTENT = {"a.bin": b"alpha" * 5000, "b.bin": b"beta" * 7000}
CUT = "cut off, as the length that was announced shows"
SHORT = "cut off, and the length was not announced"
STALL = "half of it, then nothing"


class Publisher:
    """A web server on this machine; `answers[path]` are given in turn, the last one for ever."""

    def __init__(self):
        self.answers: dict[str, deque] = {}
        self.requests: list[str] = []
        self.content: dict[str, bytes] = {}
        self.closing = threading.Event()
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                publisher.requests.append(self.path)
                queue = publisher.answers.get(self.path, deque([404]))
                publisher.answer(self, queue.popleft() if len(queue) > 1 else queue[0])

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def serve(self, name: str, content: bytes, *answers):
        self.content["/" + name] = content
        self.answers["/" + name] = deque(answers or [200])

    def answer(self, handler, answer):
        content = self.content.get(handler.path, b"")
        if isinstance(answer, bytes):
            answer, content = 200, answer
        handler.send_response(answer if isinstance(answer, int) else 200)
        if answer != SHORT:
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        whole = isinstance(answer, int)
        handler.wfile.write(content if whole else content[: len(content) // 2])
        if answer == STALL:
            handler.wfile.flush()
            self.closing.wait()


@pytest.fixture
def publisher(monkeypatch):
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda seconds: None))
    server = Publisher()
    yield server
    server.closing.set()
    server.server.shutdown()
    server.server.server_close()


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def toy(address: str, content: dict[str, bytes] = CONTENT) -> Source:
    sums = {name: sha256(data) for name, data in content.items()}
    return Source(folder="toy", files=sums, address=address, licence="none")


def files_under(folder: Path) -> dict[str, bytes]:
    """Everything there but the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


IN_LAYOUT = {f"toy/{name}": data for name, data in CONTENT.items()}


class Evil:
    """Unpickles by creating a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


# Downloads


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
    (raw / "toy" / "note.txt").write_text("the user's own")
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
        "from pathlib import Path; from flatness.fetch import copy_downloaded; "
        "from flatness.sources import Source; "
        f"copy_downloaded({source!r}, Path({str(raw)!r}), Path({str(tmp_path / 'private')!r}))"
    )
    library = str(Path(sources_module.__file__).parents[1])
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
    (tmp_path / "raw").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=f"{tmp_path}/raw/toy: cannot keep downloads here: Not a"):
        copy_downloaded(toy(publisher.address), tmp_path / "raw", tmp_path / "private")


# Mirrors


def lay_out(mirror: Path, content: dict[str, bytes], folder: str = "toy") -> Path:
    (mirror / folder).mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (mirror / folder / name).write_bytes(data)
    return mirror


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


# Archives


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


# Pickles


def test_the_evil_pickle_of_these_tests_would_run(tmp_path):
    pickle.loads(pickle.dumps(Evil(tmp_path / "created"))).close()
    assert (tmp_path / "created").exists()


@pytest.mark.parametrize("name", ["cora", "cifar10"])
def test_tampered_pickles_are_refused_before_loading(tmp_path, name, monkeypatch):
    monkeypatch.delenv("FLATNESS_DATA_MIRROR", raising=False)
    source = PUBLISHED[name]
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


def test_one_tampered_pickle_among_good_ones_is_refused_before_any_is_loaded(tmp_path, monkeypatch):
    good = {name: pickle.dumps(Evil(tmp_path / f"loaded {name}")) for name in ("1", "2", "3")}
    monkeypatch.setitem(published_data.READERS, "toy", unpickle_all)
    monkeypatch.setattr("flatness.fetch.PUBLISHED", {"toy": toy("unused", good)})
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

    monkeypatch.setitem(published_data.READERS, "toy", swap_then_load)
    monkeypatch.setattr("flatness.fetch.PUBLISHED", {"toy": toy("unused", good)})
    fetch("toy", tmp_path / "out.safetensors", mirror=str(mirror))
    assert not (tmp_path / "created").exists()


# The verb


def test_unknown_data_set_lists_the_known(tmp_path):
    with pytest.raises(UserError, match=r"cifar100: no such data set; there are abalone, .*sbm"):
        fetch("cifar100", tmp_path / "out.safetensors")


@pytest.mark.parametrize("option", ["", "other"])
def test_option_wins_over_the_variable_and_an_empty_one_falls_back(tmp_path, monkeypatch, option):
    monkeypatch.setenv("FLATNESS_DATA_MIRROR", str(tmp_path / "variable"))
    chosen = str(tmp_path / option) if option else ""
    with pytest.raises(DataError, match=f"{tmp_path}/{option or 'variable'}/abalone/abalone.data"):
        fetch("abalone", tmp_path / "out.safetensors", mirror=chosen)


def test_no_room_for_the_temporary_copy_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=f"{tmp_path}/nowhere: cannot keep a temporary copy here"):
        fetch("abalone", tmp_path / "out.safetensors", mirror=str(tmp_path))


def test_no_network_and_no_mirror_is_one_line_without_a_traceback(
    publisher, tmp_path, monkeypatch, capfd
):
    publisher.server.server_close()
    nowhere = replace(PUBLISHED["abalone"], address=publisher.address)
    monkeypatch.setattr("flatness.fetch.PUBLISHED", {"abalone": nowhere})
    monkeypatch.setenv("FLATNESS_DATA_MIRROR", "")
    monkeypatch.chdir(tmp_path)
    code = main(["fetch", "--dataset", "abalone", "--output", "data/abalone.safetensors"])
    errors = capfd.readouterr().err
    assert code == 3
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert errors.splitlines()[-1] == line
    assert "`make`" in line and "data.mirror" in line and "FLATNESS_DATA_MIRROR" in line
    assert files_under(tmp_path / "data") == {}


def test_demo_data_need_neither_network_nor_mirror(tmp_path, monkeypatch):
    monkeypatch.setenv("FLATNESS_DATA_MIRROR", str(tmp_path / "nowhere"))
    output = tmp_path / "data" / "digits.safetensors"
    assert main(["fetch", "--dataset", "digits", "--output", str(output)]) == 0
    assert load(output).demo
    first = output.read_bytes()
    fetch("digits", output)
    assert output.read_bytes() == first
