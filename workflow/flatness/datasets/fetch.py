"""The verb `fetch`: gets a data set, checks it, and writes it as one normalised file.

Raw files come from their publisher or from a mirror: a folder with one subfolder for each data
set, with the published files (`flatness.datasets`). Downloads are kept in the same layout, so a
cache of raw files is a mirror. A pickle is loaded only from a private copy whose checksum matched.
Every later stage reads the normalised file, which cannot run code.
"""

import hashlib
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import pooch
import requests
import typer
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from flatness.datasets import DATASETS, module_of
from flatness.datasets.check import check_tensors
from flatness.datasets.normalised import Dataset, save
from flatness.datasets.sources import Source
from flatness.errors import DataError, UserError
from flatness.records.files import atomic_path

MIRROR_VARIABLE = "FLATNESS_DATA_MIRROR"

_USE_A_MIRROR = f"data.mirror in the config or {MIRROR_VARIABLE}"


def fetch(
    dataset: Annotated[str, typer.Option(help="name: " + ", ".join(DATASETS))],
    output: Annotated[Path, typer.Option(help="the .safetensors file to write")],
    mirror: Annotated[
        str,
        typer.Option(
            help="folder with the published files; if none is given, that of the environment "
            f"variable {MIRROR_VARIABLE}; if that is unset or empty, files are downloaded"
        ),
    ] = "",
    raw: Annotated[Path, typer.Option(help="where downloaded files are kept")] = Path("data/raw"),
) -> None:
    """Gets a data set, checks it, and writes it as one normalised file."""
    if dataset not in DATASETS:
        raise UserError(f"{dataset}: no such data set; there are {', '.join(DATASETS)}")
    module = import_module(module_of(dataset))
    if hasattr(module, "make"):
        found = Dataset(dataset, True, module.make())
    elif hasattr(module, "SOURCE"):
        chosen = mirror or os.environ.get(MIRROR_VARIABLE, "")
        tensors = published(module.SOURCE, module.read, Path(chosen) if chosen else None, raw)
        found = Dataset(dataset, False, tensors, module.SOURCE.files)
    else:
        raise UserError(f"{module.__name__} has neither a function make nor a SOURCE; write one")
    check_tensors(found, DATASETS[dataset])
    save(output, found)


def published(
    source: Source, read: Callable[[Path], dict[str, Tensor]], mirror: Path | None, raw: Path
) -> dict[str, Tensor]:
    """The tensors of a published data set, read from verified files.

    Args:
        source: the data set.
        read: makes tensors of the files below a folder.
        mirror: folder that holds the published files; None downloads them.
        raw: where downloaded files are kept.

    Returns:
        The tensors.

    Raises:
        DataError: a file is not available, or is not the published one; names it.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="flatness-") as private:
            if mirror:
                copy_mirrored(source, mirror, Path(private))
            else:
                copy_downloaded(source, raw, Path(private))
            return read(Path(private))
    except OSError as error:
        raise DataError(
            f"{tempfile.gettempdir()}: cannot keep a temporary copy here: "
            f"{error.strerror or error}; free space or set TMPDIR to another folder"
        ) from error


def copy_mirrored(source: Source, mirror: Path, private: Path) -> None:
    """Copies verified files from a mirror, which is never changed.

    Args:
        source: the data set.
        mirror: folder of `source.folder`.
        private: folder to copy to, which nobody else can write.

    Raises:
        DataError: a file is missing or is not the published one; names it.
    """
    for name, checksum in source.files.items():
        path = mirror / source.folder / name
        content = _read(path)
        if difference := _difference(content, checksum):
            raise DataError(
                f"{path}: not the published file: {difference}; put the published file there, or "
                f"choose another mirror ({_USE_A_MIRROR})"
            )
        _write(private / source.folder / name, content)


def copy_downloaded(source: Source, raw: Path, private: Path) -> None:
    """Downloads files that the cache of raw files lacks, verifies and copies them.

    Args:
        source: the data set.
        raw: the cache; its layout is a mirror's.
        private: folder to copy to, which nobody else can write.

    Raises:
        DataError: no network, no such file there, or not the published file, which is then
            removed from the cache.
    """
    folder = raw / source.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A job that outlived a killed run may still be downloading.
        with FileLock(folder / ".lock"):
            for partial in [*folder.glob("tmp*"), *folder.glob(".*.*")]:
                partial.unlink()
            _download_missing(source, folder)
            for name, checksum in source.files.items():
                content = _read(folder / name)
                if difference := _difference(content, checksum):
                    (folder / name).unlink()
                    raise DataError(
                        f"{folder / name}: not the published file: {difference}; it was removed: "
                        f"run again to download it, or use a mirror ({_USE_A_MIRROR})"
                    )
                _write(private / source.folder / name, content)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot keep downloads here: {error.strerror or error}; free space or fix "
            "its permissions and run again"
        ) from error


def _download_missing(source: Source, folder: Path) -> None:
    missing = [name for name in source.files if not (folder / name).exists()]
    if missing and source.archive:
        archive = folder / source.address.rsplit("/", 1)[-1]
        _download(source.address, archive, source.archive)
        extract(archive, source, folder)
        archive.unlink()
    else:
        for name in missing:
            _download(source.address + name, folder / name, source.files[name])


def _download(url: str, path: Path, checksum: str) -> None:
    """Downloads one file under a temporary name; it is renamed if its checksum is right."""
    store = pooch.create(
        path.parent, "", registry={path.name: checksum}, urls={path.name: url}, retry_if_failed=2
    )
    try:
        # pooch needs a progress bar that is truthy; tqdm's is with a total, which pooch then
        # corrects.
        with tqdm(desc=path.name, total=1, unit="B", unit_scale=True, mininterval=1) as bar:
            downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**18)
            store.fetch(path.name, downloader=downloader)
    except requests.RequestException as error:
        answer = error.response
        cause = error if answer is None else f"the server answers {answer.status_code}"
        raise DataError(
            f"{path}: cannot be downloaded from {url}; without a network, run `make` for the demo, "
            f"which needs none, or use a mirror ({_USE_A_MIRROR}); the cause: {_one_line(cause)}"
        ) from error
    except ValueError as error:
        raise DataError(
            f"{path}: what {url} sends is not the published file; use a mirror ({_USE_A_MIRROR}); "
            f"the cause: {_one_line(error)}"
        ) from error


def _one_line(cause: object) -> str:
    return " ".join(str(cause).split())


def extract(archive: Path, source: Source, folder: Path) -> None:
    """Extracts the files of a data set from a tar archive, each verified before it is written.

    File names come from the registry, never from the archive, so that nothing can be written
    outside the folder; links and other members are skipped.

    Args:
        archive: a tar archive with the files under `source.folder`.
        source: the data set.
        folder: where to write.

    Raises:
        DataError: the archive is damaged, or a file is missing in it or not the published one.
    """
    wanted = {f"{source.folder}/{name}": name for name in source.files}
    try:
        with tarfile.open(archive) as members:
            for member in members:
                name = wanted.get(member.name)
                if name is None or not member.isreg():
                    continue
                content = members.extractfile(member).read()
                if difference := _difference(content, source.files[name]):
                    raise DataError(
                        f"{archive}: its member {name} is not the published file: {difference}; "
                        f"use a mirror ({_USE_A_MIRROR})"
                    )
                del wanted[member.name]
                _write(folder / name, content)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(
            f"{archive}: a damaged archive ({error}); delete it and run again"
        ) from error
    if wanted:
        raise DataError(
            f"{archive}: lacks {', '.join(sorted(wanted))}; use a mirror ({_USE_A_MIRROR})"
        )


def _difference(content: bytes, checksum: str) -> str:
    """Empty if the content has the checksum, else both checksums."""
    algorithm = checksum.split(":")[0]
    found = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
    return "" if found == checksum else f"expected {checksum}, found {found}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; a mirror ({_USE_A_MIRROR}) holds the published files of "
            f"each data set in a folder of its own, here {path.parent.name}"
        ) from error


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
