"""Results that were computed elsewhere, judged as if they had been made here.

They are checked and get back Snakemake's records and the times of their files. What other settings
or other code made then runs again, and nothing else. (`snakemake --touch --forceall` would instead
record today's settings and code as what made them.) Tables are enough: weights that are not here
are trained again only where a table that is measured on them is missing or out of date.
"""

import json
import os
import subprocess
from pathlib import Path

from flatness.errors import DataError, UserError
from flatness.extras import program
from flatness.pipeline.config import Config
from flatness.pipeline.manifest import Manifest, read_manifest, verify
from flatness.pipeline.snakemake_records import RECORDS, came_from_elsewhere, manifest_path
from flatness.records.files import atomic_path


def take_over(settings: Config, config: Path) -> Manifest:
    """Takes over the results of a configuration, of which all or only the tables are here.

    Args:
        settings: the configuration.
        config: its file.

    Returns:
        The manifest that came with them.

    Raises:
        DataError: the manifest is missing or damaged, a file is not as it says, or a data set
            cannot be had.
        UserError: the results are of another configuration, or of another kind of device.
    """
    manifest = read_manifest(manifest_path(settings.name))
    check_device(manifest, settings, config)
    verify(manifest, Path())
    restore(manifest)  # first, since the workflow refuses results without records
    fetch_data(manifest, config)
    restore(manifest)
    return manifest


def take_over_if_foreign(settings: Config, config: Path) -> None:
    """Takes over results that `came_from_elsewhere`.

    Args:
        settings: the configuration.
        config: its file.

    Raises:
        DataError: as `take_over`.
        UserError: as `take_over`.
    """
    if came_from_elsewhere(settings.name):
        take_over(settings, config)


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
    """Puts Snakemake's records and the times of the files back.

    Weights that are not here get their record too: Snakemake compares no settings of a job of whose
    outputs one has none.
    """
    for path, file in manifest.files.items():
        if Path(path).exists():
            os.utime(path, ns=(file.modified_ns, file.modified_ns))
        if file.record:
            with atomic_path(RECORDS / file.record_path) as temporary:
                temporary.write_text(json.dumps(file.record), encoding="utf-8")
