"""The manifest of a results folder: each file's checksum, and Snakemake's record of its job.

Snakemake keeps beside a run what made each output: parameters (the settings and the code's hash),
inputs, times. The manifest binds these records to the contents, so that results can leave the
machine that made them and be judged elsewhere by the same rules as results at home.

Tables outlive checkpoints: weights that were deleted, or left where they were trained, keep their
record. Whether what was measured on them still stands is judged by it, not by the weights.
"""

import hashlib
import json
import platform
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from tqdm import tqdm

from flatness.errors import DataError
from flatness.pipeline.config import Config
from flatness.pipeline.snakemake_records import RECORDS, manifest_path, recorded
from flatness.records import layout
from flatness.records.files import atomic_path
from flatness.records.frozen import Frozen, canonical_json, content_hash
from flatness.records.tables import commit_here

#: Stages whose files results are computed from: nothing may lie there that no job made.
TRUSTED = (layout.CHECKPOINTS, layout.MEASUREMENTS, layout.CORRELATIONS)
#: Seconds by which clocks of file systems round.
ROUNDING = 2.0


class File(Frozen):
    """One output of a job.

    Attributes:
        sha256: of its content; empty for weights that are gone.
        modified_ns: when it was written, in nanoseconds since 1970; 0 for weights that are gone.
        record_path: where Snakemake keeps its record, under `RECORDS`; empty where it keeps none.
        record: the record.
    """

    sha256: str = ""
    modified_ns: int = 0
    record_path: Annotated[str, Field(pattern=r"^(@?[A-Za-z0-9_=-]+/?)*$")] = ""
    record: dict[str, Any] = Field(default_factory=dict)


class Manifest(Frozen):
    """What a results folder holds and what made it.

    Attributes:
        name: of the configuration.
        config: all its settings.
        config_hash: of the settings.
        device: kind of device that "auto" stood for.
        commit: of the code when the manifest was written; each table's rows have their own.
        dirty: whether tracked files differed from that commit.
        python: version of Python.
        platform: operating system and processor.
        packages: versions of all installed packages.
        files: by path from the folder that holds `results` and `data`.
    """

    name: str
    config: dict[str, Any]
    config_hash: str
    device: str
    commit: str
    dirty: bool
    python: str
    platform: str
    packages: dict[str, str]
    files: dict[Annotated[str, Field(pattern=r"^(results|data)/")], File]

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, File]) -> dict[str, File]:
        if outside := [path for path in files if ".." in Path(path).parts]:
            raise ValueError(f"{outside[0]} lies outside the folder")
        return files


def write_manifest(settings: Config) -> Manifest:
    """Describes what a run left, in `results/<name>/manifest.json`.

    Args:
        settings: the run's configuration.

    Returns:
        The manifest.
    """
    paths = _outputs(settings.name)
    bar = tqdm(paths.items(), desc="checksums", unit="file", mininterval=2, delay=2)
    commit, dirty = commit_here()
    manifest = Manifest(
        name=settings.name,
        config=settings.model_dump(mode="json"),
        config_hash=content_hash(settings),
        device=settings.device_kind,
        commit=commit,
        dirty=dirty,
        python=platform.python_version(),
        platform=platform.platform(),
        packages={item.name: item.version for item in distributions()},
        files={path: _describe(Path(path), record) for path, record in bar},
    )
    with atomic_path(manifest_path(settings.name)) as temporary:
        temporary.write_text(canonical_json(manifest), encoding="utf-8")
    return manifest


def require_untouched(manifest: Manifest) -> None:
    """Looks for files that were changed after their job, so that its record is not theirs.

    Args:
        manifest: of the results.

    Raises:
        DataError: there is one; names it. Or there are no results.
    """
    if not any(path.startswith("results/") for path in manifest.files):
        raise DataError(f"results/{manifest.name}: no results here; run the configuration first")
    for path, file in manifest.files.items():
        if file.record and file.modified_ns / 1e9 > file.record["endtime"] + ROUNDING:
            raise DataError(
                f"{path}: changed after the job that made it had ended; delete it and run again"
            )


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest.

    Args:
        path: the file.

    Returns:
        The manifest.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; a run that ends writes it, `flatness "
            "archive` too: copy it with the results"
        ) from error
    except ValidationError as error:
        raise DataError(f"{path}: damaged; copy it again") from error


def verify(manifest: Manifest, root: Path) -> None:
    """Holds the files that are here against their manifest; those that are not pass.

    Args:
        manifest: of the results.
        root: the folder that holds `results`.

    Raises:
        DataError: a file has another content, or lies among the results without being listed; names
            it.
    """
    results = root / layout.results_of(manifest.name)
    # Hidden ones are what killed jobs left of files they were writing; no job reads them.
    found = {file for stage in TRUSTED for file in (results / stage).rglob("[!.]*")}
    found = {file for file in found if file.is_file()}
    for file in sorted(found - {root / path for path in manifest.files}):
        raise DataError(f"{file}: not in the manifest, so nothing says what made it; delete it")
    bar = tqdm(manifest.files.items(), desc="checksums", unit="file", mininterval=2, delay=2)
    for path, file in bar:
        if (root / path).exists() and _sha256(root / path) != file.sha256:
            raise DataError(
                f"{root / path}: its content is not what the manifest says; copy it again"
            )


def _outputs(name: str) -> dict[str, Path | None]:
    """Files that jobs of a configuration made, weights that are gone too, and their records."""
    results = layout.results_of(name)
    found = {
        path: key
        for path, key in sorted(recorded())
        if path.startswith((f"{results}/", "data/"))
        and (Path(path).is_file() or path.startswith(f"{results}/{layout.CHECKPOINTS}/"))
    }
    return found | {str(path): None for path in layout.files(results, layout.BENCHMARK)}


def _describe(path: Path, key: Path | None) -> File:
    found = {}
    if path.exists():
        found = {"sha256": _sha256(path), "modified_ns": path.stat().st_mtime_ns}
    if key is None:
        return File(**found)
    record = json.loads((RECORDS / key).read_text(encoding="utf-8"))
    # The whole lock file again, and the parameters again; neither is a reason to run.
    for name in ("conda_env", "shellcmd"):
        record.pop(name, None)
    return File(**found, record_path=str(key), record=record)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; copy it again") from error
