"""The verbs `archive` and `adopt`: results are moved from one machine to another."""

import io
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from flatness.errors import DataError, UserError
from flatness.pipeline.crate import METADATA, SETTINGS, run_crate
from flatness.pipeline.manifest import (
    Manifest,
    read_manifest,
    require_untouched,
    verify,
    write_manifest,
)
from flatness.pipeline.plan import jobs_to_run
from flatness.pipeline.run import load_config, sole_run
from flatness.pipeline.snakemake_records import manifest_path
from flatness.pipeline.take_over import take_over
from flatness.records.files import atomic_path

#: Further content of an archive: everything that is needed to run again.
PROJECT = Path(__file__).parents[3]
ENVIRONMENT = ("envs/requirements.lock", "README.md", "LICENSE", "CITATION.cff")
CODE = ("Snakefile", "workflow")

ConfigFile = Annotated[Path, typer.Argument(help="the configuration file of the results")]


def archive(
    config: ConfigFile,
    output: Annotated[Path | None, typer.Option(help="the tar; flatness-<name>.tar")] = None,
) -> None:
    """Packs results, settings, code and versions of a run into one tar file, an RO-Crate."""
    settings = load_config(config)
    path = output or Path(f"flatness-{settings.name}.tar")
    with sole_run():
        manifest = write_manifest(settings)
        require_untouched(manifest)
        pack(path, config, manifest)
    kept = sum(bool(file.sha256) for file in manifest.files.values())
    print(f"{path}: {kept} files of commit {manifest.commit}")


def pack(path: Path, config: Path, manifest: Manifest) -> None:
    """Writes an archive, completely or not at all.

    Args:
        path: the tar file to write.
        config: the configuration file.
        manifest: of the results; data sets are not included.
    """
    top = f"flatness-{manifest.name}"
    results = [n for n, file in manifest.files.items() if n.startswith("results/") and file.sha256]
    results.append(str(manifest_path(manifest.name)))
    crate = run_crate(manifest, results, ENVIRONMENT, PROJECT / "CITATION.cff").encode()
    with atomic_path(path) as temporary, tarfile.open(temporary, "w") as tar:
        described = tarfile.TarInfo(f"{top}/{METADATA}")
        described.size, described.mode = len(crate), 0o644
        tar.addfile(described, io.BytesIO(crate))
        for name in results:
            tar.add(name, f"{top}/{name}")
        tar.add(config, f"{top}/{SETTINGS}")
        for name in (*ENVIRONMENT, *CODE):
            tar.add(PROJECT / name, f"{top}/{name}", filter=_source)


def _source(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leaves out files that Python and pip write beside the code."""
    made = ("__pycache__", ".egg-info")
    return None if member.name.endswith(made) else member


def adopt(
    config: ConfigFile,
    archive: Annotated[Path | None, typer.Option(help="tar to unpack the results from")] = None,
) -> None:
    """Adopts results from elsewhere: checks them and runs again only what is out of date."""
    settings = load_config(config)
    with sole_run():
        if archive:
            unpack(archive, settings.name)
        manifest = take_over(settings, config)
    here = sum(Path(path).exists() for path in manifest.files)
    print(
        f"{here} of {len(manifest.files)} files of commit {manifest.commit} taken over; "
        f"{jobs_to_run(config)} jobs left to run"
    )


def unpack(path: Path, name: str) -> None:
    """Extracts the results from an archive, after verifying all of them.

    Args:
        path: a tar file written by `archive`.
        name: of the configuration.

    Raises:
        DataError: the archive is damaged, or a member would be written outside its folder.
        UserError: there are results here already, or the archive has none of this name.
    """
    target = manifest_path(name).parent
    if target.exists():
        raise UserError(f"{target}: there are results here; move them away before you adopt others")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpacked-") as folder:
        try:
            with tarfile.open(path) as tar:
                tar.extractall(folder, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"{path}: damaged or not safe to unpack: {error}") from error
        root = Path(folder) / f"flatness-{name}"
        if not (root / target).is_dir():
            raise UserError(f"{path}: contains no results of {name}; give their config")
        verify(read_manifest(root / manifest_path(name)), root)
        (root / target).rename(target)
