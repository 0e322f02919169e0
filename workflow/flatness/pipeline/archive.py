"""The verbs `archive` and `adopt`: results leave one machine and are taken over by another.

Adopted results are checked and get back Snakemake's records and the times of their files. Snakemake
then judges them as if they had been made here: what other settings or other code made runs again,
and nothing else. (`snakemake --touch --forceall` would instead record today's settings and code as
what made them.)
"""

import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from flatness.errors import DataError, UserError
from flatness.extras import program
from flatness.pipeline.config import Config
from flatness.pipeline.manifest import (
    RECORDS,
    Manifest,
    manifest_path,
    read_manifest,
    require_untouched,
    verify,
    write_manifest,
)
from flatness.pipeline.plan import jobs_to_run
from flatness.pipeline.run import load_config, sole_run
from flatness.records.files import atomic_path

#: What stands beside the results in an archive: all that is needed to run them again.
PROJECT = Path(__file__).parents[3]
ENVIRONMENT = ("envs/requirements.lock", "README.md", "LICENSE", "CITATION.cff")

ConfigFile = Annotated[Path, typer.Argument(help="the configuration file of the results")]


def archive(
    config: ConfigFile,
    output: Annotated[Path | None, typer.Option(help="the tar; flatness-<name>.tar")] = None,
) -> None:
    """Packs tables, checkpoints, figures, settings and versions of a run into one tar file."""
    settings = load_config(config)
    path = output or Path(f"flatness-{settings.name}.tar")
    with sole_run():
        manifest = write_manifest(settings)
        require_untouched(manifest)
        pack(path, config, manifest)
    print(f"{path}: {len(manifest.files)} files of commit {manifest.commit}")


def pack(path: Path, config: Path, manifest: Manifest) -> None:
    """Writes an archive, whole or not at all.

    Args:
        path: the tar file to write.
        config: the configuration file.
        manifest: of the results; data sets are left to their publishers.
    """
    top = f"flatness-{manifest.name}"
    results = [name for name in manifest.files if name.startswith("results/")]
    with atomic_path(path) as temporary, tarfile.open(temporary, "w") as tar:
        for name in [str(manifest_path(manifest.name)), *results]:
            tar.add(name, f"{top}/{name}")
        tar.add(config, f"{top}/config.yaml")
        for name in ENVIRONMENT:
            tar.add(PROJECT / name, f"{top}/{name}")


def adopt(
    config: ConfigFile,
    archive: Annotated[Path | None, typer.Option(help="tar to unpack the results from")] = None,
) -> None:
    """Takes over results from elsewhere: checks them, and runs again only what must be."""
    settings = load_config(config)
    with sole_run():
        if archive:
            unpack(archive, settings.name)
        manifest = read_manifest(manifest_path(settings.name))
        check_device(manifest, settings, config)
        verify(manifest, Path())
        fetch_data(manifest, config)
        restore(manifest)
    print(
        f"{len(manifest.files)} files of commit {manifest.commit} taken over; "
        f"{jobs_to_run(config)} jobs left to run"
    )


def unpack(path: Path, name: str) -> None:
    """Takes the results out of an archive, once all of them are verified.

    Args:
        path: a tar file that `archive` wrote.
        name: of the configuration.

    Raises:
        DataError: the archive is damaged, or a member would be written outside its folder.
        UserError: there are results here already, or the archive has none of this name.
    """
    target = manifest_path(name).parent
    if target.exists():
        raise UserError(f"{target}: there are results here; move them away before adopting others")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpacked-") as folder:
        try:
            with tarfile.open(path) as tar:
                tar.extractall(folder, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"{path}: damaged or not safe to unpack: {error}") from error
        root = Path(folder) / f"flatness-{name}"
        if not (root / target).is_dir():
            raise UserError(f"{path}: holds no results of {name}; give the config they are of")
        verify(read_manifest(root / manifest_path(name)), root)
        (root / target).rename(target)


def check_device(manifest: Manifest, settings: Config, config: Path) -> None:
    """Explains what would otherwise be a rerun of everything.

    Args:
        manifest: of the results.
        settings: of the configuration.
        config: its file.

    Raises:
        UserError: the results are of another configuration, or of another kind of device.
    """
    if manifest.name != settings.name:
        raise UserError(f"{manifest_path(settings.name)}: describes results of {manifest.name}")
    if manifest.device != settings.device_kind:
        raise UserError(
            f"{config}: the results were computed on {manifest.device}, and this machine would use "
            f"{settings.device_kind}: write device: {manifest.device} to keep them"
        )


def fetch_data(manifest: Manifest, config: Path) -> None:
    """Fetches the data sets behind the results: fetched later, they would pass for new ones.

    Args:
        manifest: of the results.
        config: the configuration file.

    Raises:
        DataError: a data set cannot be had, or is another one than the results are of.
    """
    missing = [
        path for path in manifest.files if path.startswith("data/") and not Path(path).exists()
    ]
    if missing:
        command = [program("snakemake"), "--configfile", str(config), "--quiet", "all"]
        if subprocess.run([*command, "--", *missing], check=False).returncode:
            raise DataError(f"{missing[0]}: cannot be fetched; data/logs says why")
    verify(manifest, Path())


def restore(manifest: Manifest) -> None:
    """Puts Snakemake's records and the times of the files back."""
    for path, file in manifest.files.items():
        if file.record and Path(path).exists():
            os.utime(path, ns=(file.modified_ns, file.modified_ns))
            with atomic_path(RECORDS / file.record_path) as temporary:
                temporary.write_text(json.dumps(file.record), encoding="utf-8")
