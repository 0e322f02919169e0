"""The kept larger run: another machine goes on from its tables, so the manifest must know them."""

import hashlib
import tarfile
from pathlib import Path

from flatness.pipeline.manifest import TRUSTED, read_manifest
from flatness.records import layout

KEPT = Path(__file__).parents[3] / "results/reference/scale"
#: The measurements, compressed.
MEASURED = KEPT / f"{layout.MEASUREMENTS}.tar.xz"
MANIFEST = read_manifest(KEPT / layout.MANIFEST)


def kept_files():
    """Content of every kept file of the run, by its path in `results`."""
    plain = [path for stage in (*TRUSTED, "benchmarks") for path in (KEPT / stage).rglob("*.*sv")]
    found = {str(path.relative_to(KEPT)): path.read_bytes() for path in plain}
    with tarfile.open(MEASURED) as archive:
        for member in archive:
            if member.isfile():
                found[member.name] = archive.extractfile(member).read()
    return {f"{layout.results_of(MANIFEST.name)}/{path}": data for path, data in found.items()}


def test_the_manifest_knows_every_table_of_trainings_and_measurements():
    stages = tuple(f"results/scale/{stage}/" for stage in (layout.CHECKPOINTS, layout.MEASUREMENTS))
    tables = [path for path in kept_files() if path.startswith(stages)]
    assert len(tables) > 400
    assert not [path for path in tables if not MANIFEST.files[path].record]


def test_kept_files_are_those_of_the_manifest():
    listed = {path: data for path, data in kept_files().items() if path in MANIFEST.files}
    assert {path.split("/")[2] for path in listed} >= {*TRUSTED, "benchmarks"}
    assert [
        path
        for path, data in listed.items()
        if hashlib.sha256(data).hexdigest() != MANIFEST.files[path].sha256
    ] == []
