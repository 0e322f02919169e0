"""The manifest of a results folder: each file's checksum, and Snakemake's record of its job.

Snakemake records how each output was made: parameters (the settings and the code's hash), inputs,
times. The manifest links these records to the contents of files, so that results can be moved to
another machine and judged there by the same rules.

Tables may remain without their checkpoints: weights that were deleted, or left where they were
trained, keep their record. This record decides whether measurements on them are still valid.
"""

import hashlib
import json
import platform
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from tqdm import tqdm

from flatness.errors import DataError
from flatness.pipeline.config import Config
from flatness.pipeline.snakemake_records import RECORDS, manifest_path, recorded
from flatness.records import layout
from flatness.records.files import atomic_path
from flatness.records.frozen import Frozen, canonical_json, content_hash
from flatness.records.tables import commit_here

#: Stages whose files are inputs of results; they may only contain files made by jobs.
TRUSTED = (layout.CHECKPOINTS, layout.MEASUREMENTS, layout.CORRELATIONS)
#: Seconds to which file systems round times.
ROUNDING = 2.0


class File(Frozen):
    """One output of a job.

    Attributes:
        sha256: of its content; empty for missing weights.
        modified_ns: when it was written, in nanoseconds since 1970; 0 for missing weights.
        record_path: path of Snakemake's record, under `RECORDS`; empty if there is none.
        record: the record, without the job's parameters.
        params: key of the parameters in `Manifest.params`; empty if the record has none.
    """

    sha256: str = ""
    modified_ns: int = 0
    record_path: Annotated[str, Field(pattern=r"^(@?[A-Za-z0-9_=-]+/?)*$")] = ""
    record: dict[str, Any] = Field(default_factory=dict)
    params: str = ""


class Manifest(Frozen):
    """The content of a results folder and how it was made.

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
        params: jobs' parameters by their hash: a training job repeats its settings for each output.
        files: by path from the folder that contains `results` and `data`.
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
    params: dict[str, list[str]] = Field(default_factory=dict)
    files: dict[Annotated[str, Field(pattern=r"^(results|data)/")], File]

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, File]) -> dict[str, File]:
        if outside := [path for path in files if ".." in Path(path).parts]:
            raise ValueError(f"{outside[0]} lies outside the folder")
        return files

    @model_validator(mode="after")
    def _hold_all_params(self) -> Self:
        for path, file in self.files.items():
            if file.params and file.params not in self.params:
                raise ValueError(f"{path}: its job's parameters are missing")
        return self

    def record(self, path: str) -> dict[str, Any]:
        """Snakemake's whole record of a file's job; empty if there is none."""
        file = self.files[path]
        return file.record | ({"params": self.params[file.params]} if file.params else {})


def write_manifest(settings: Config) -> Manifest:
    """Describes the results of a run in `results/<name>/manifest.json`.

    Args:
        settings: the run's configuration.

    Returns:
        The manifest.
    """
    paths = _outputs(settings.name)
    bar = tqdm(paths.items(), desc="checksums", unit="file", mininterval=2, delay=2)
    commit, dirty = commit_here()
    params: dict[str, list[str]] = {}
    files = {path: _describe(Path(path), record, params) for path, record in bar}
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
        params=params,
        files=files,
    )
    with atomic_path(manifest_path(settings.name)) as temporary:
        temporary.write_text(canonical_json(manifest), encoding="utf-8")
    return manifest


def require_untouched(manifest: Manifest) -> None:
    """Looks for files that were changed after their job, so that its record is not valid for them.

    Args:
        manifest: of the results.

    Raises:
        DataError: there is such a file, which is named; or there are no results.
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
            f"{path}: cannot be read: {error.strerror}; a finished run and `flatness archive` "
            "write it: copy it with the results"
        ) from error
    except ValidationError as error:
        raise DataError(f"{path}: damaged; copy it again") from error


def verify(manifest: Manifest, root: Path) -> None:
    """Compares existing files with their manifest; missing files are accepted.

    Args:
        manifest: of the results.
        root: the folder that contains `results`.

    Raises:
        DataError: a file has another content, or is among the results but not listed; names it.
    """
    results = root / layout.results_of(manifest.name)
    # Hidden files are left by killed jobs that were writing; no job reads them.
    found = {file for stage in TRUSTED for file in (results / stage).rglob("[!.]*")}
    found = {file for file in found if file.is_file()}
    for file in sorted(found - {root / path for path in manifest.files}):
        raise DataError(f"{file}: not in the manifest, so nothing says what made it; delete it")
    bar = tqdm(manifest.files.items(), desc="checksums", unit="file", mininterval=2, delay=2)
    for path, file in bar:
        if (root / path).exists() and _sha256(root / path) != file.sha256:
            raise DataError(
                f"{root / path}: its content does not match the manifest; copy it again"
            )


def _outputs(name: str) -> dict[str, Path | None]:
    """Files made by jobs of a configuration, including missing weights, and their records."""
    results = layout.results_of(name)
    found = {
        path: key
        for path, key in sorted(recorded())
        if path.startswith((f"{results}/", "data/"))
        and (Path(path).is_file() or path.startswith(f"{results}/{layout.CHECKPOINTS}/"))
    }
    return found | {str(path): None for path in layout.files(results, layout.BENCHMARK)}


def _describe(path: Path, key: Path | None, params: dict[str, list[str]]) -> File:
    """Describes one output and its record, whose parameters are added to `params`."""
    found: dict[str, Any] = {}
    if path.exists():
        found = {"sha256": _sha256(path), "modified_ns": path.stat().st_mtime_ns}
    if key is None:
        return File(**found)
    record = json.loads((RECORDS / key).read_text(encoding="utf-8"))
    # Copies of the whole lock file and of the parameters; neither causes a rerun.
    for name in ("conda_env", "shellcmd"):
        record.pop(name, None)
    if "params" in record:
        values = record.pop("params")
        found["params"] = content_hash({"params": values})
        params[found["params"]] = values
    return File(**found, record_path=str(key), record=record)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; copy it again") from error
