"""Adopts results that were computed elsewhere, as if they had been made here.

The results are checked, and Snakemake's records and the times of the files are restored. Then only
jobs whose settings or code have changed run again. (`snakemake --touch --forceall` would instead
record the current settings and code as those of the results.) Tables are enough: missing weights
are trained again only if a table that is measured on them is missing or out of date.
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
from flatness.records import layout
from flatness.records.files import atomic_path


def take_over(settings: Config, config: Path) -> Manifest:
    """Adopts the results of a configuration: all of them, or only the tables.

    Args:
        settings: the configuration.
        config: its file.

    Returns:
        The manifest that came with them.

    Raises:
        DataError: the manifest is missing or damaged, a file does not match it, or a data set
            is not available.
        UserError: the results are of another configuration, or of another kind of device.
    """
    manifest = read_manifest(manifest_path(settings.name))
    check_device(manifest, settings, config)
    verify(manifest, Path())
    restore(manifest)  # comes first, since the workflow refuses results without records
    fetch_data(manifest, config)
    restore(manifest)
    return manifest


def take_over_if_foreign(settings: Config, config: Path) -> None:
    """Adopts results that `came_from_elsewhere`.

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
    """Refuses results that would otherwise be computed again completely.

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
    weights = f"{layout.results_of(manifest.name)}/{layout.CHECKPOINTS}/chen"
    for name, family in settings.chen.families.items():
        if any(path.startswith(f"{weights}/{name}/") for path in manifest.files):
            trained = manifest.config["chen"]["families"][name].get("train_on") or manifest.device
            if trained != (family.train_on or settings.device_kind):
                raise UserError(
                    f"{config}: chen.families.{name} was trained on {trained}: write train_on: "
                    f"{trained} to keep its results"
                )


def fetch_data(manifest: Manifest, config: Path) -> None:
    """Fetches the data sets of the results: if fetched later, they would count as new.

    Args:
        manifest: of the results.
        config: the configuration file.

    Raises:
        DataError: a data set is not available, or differs from that of the results.
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
    """Restores Snakemake's records and the times of the files.

    Missing weights get their record, too: if one output of a job has no record, Snakemake does not
    compare the job's settings.
    """
    for path, file in manifest.files.items():
        if Path(path).exists():
            os.utime(path, ns=(file.modified_ns, file.modified_ns))
        if file.record:
            with atomic_path(RECORDS / file.record_path) as temporary:
                temporary.write_text(json.dumps(manifest.record(path)), encoding="utf-8")
