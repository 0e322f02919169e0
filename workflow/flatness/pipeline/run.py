"""The verb `run`: the whole workflow with one command, also after a kill."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import psutil
import typer
import yaml
from filelock import FileLock, Timeout

from flatness.errors import DataError, UserError
from flatness.extras import program
from flatness.pipeline.config import Config, validate
from flatness.pipeline.manifest import write_manifest
from flatness.pipeline.progress import run_with_bar
from flatness.pipeline.take_over import take_over_if_foreign
from flatness.records import layout
from flatness.records.frozen import seeds_of
from flatness.report.summary import print_summary
from flatness.studies.transformers.pretrained import IMAGES_DIR, WEIGHTS_DIR, require_pretrained

LOCKS = Path(".snakemake/locks")


def run(
    config: Annotated[Path, typer.Argument(help="config/demo.yaml, laptop.yaml or paper.yaml")],
    targets: Annotated[list[str] | None, typer.Argument(help="rules or files; all if none")] = None,
    profile: Annotated[
        Path | None, typer.Option(help="how to run, such as profiles/slurm; profiles/default")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="show all messages of Snakemake and its jobs")
    ] = False,
) -> None:
    """Runs Snakemake to the end, also after a kill, and prints the results."""
    settings = load_config(config)
    results = layout.results_of(settings.name)
    check_before_start(config, settings, targets or [])
    command = [program("snakemake"), "--configfile", str(config)]
    command += ["--workflow-profile", str(profile)] if profile else []
    with sole_run():
        require_writable(results)
        take_over_if_foreign(settings, config)
        # In a separate process, which frees PyTorch's memory before the jobs start.
        subprocess.run([sys.executable, "-m", "flatness", "machine"], check=True)
        # No run is active here, so a lock was left by a killed run.
        if any(LOCKS.glob("*.lock")):
            subprocess.run([*command, "--unlock"], capture_output=True, check=False)
        for log, part in parts(settings, targets or []).items():
            asked = [*command, "--", *part]
            if verbose:
                code = subprocess.run(asked, check=False).returncode
            else:
                code = run_with_bar(asked, results / layout.LOG.format(job=log))
            if code:
                break
        write_manifest(settings)
        if code:  # a ledger that is there is of an earlier run
            raise UserError(
                f"the run of {config} stopped before its end; its messages say why. "
                "Finished jobs are kept: repeat the same command to resume"
            )
        print_summary(results)


def parts(settings: Config, targets: Sequence[str]) -> dict[str, list[str]]:
    """The targets that Snakemake gets, one list after the other.

    Args:
        settings: the configuration.
        targets: targets given by the user.

    Returns:
        Maps the name of a log to targets: the given ones; if there are none, each tier of the
        configuration in order, then all.
    """
    tiers = () if targets else settings.tiers
    return {f"run_{tier}": [f"{settings.name}_{tier}"] for tier in tiers} | {"run": list(targets)}


def check_before_start(config: Path, settings: Config, targets: Sequence[str]) -> None:
    """Looks for problems that would end a run at once, or hours after its start.

    Args:
        config: a configuration file.
        settings: its content.
        targets: rules or files; all if none.

    Raises:
        UserError: Snakemake cannot make a target.
        DataError: images or weights of transformers to measure are missing.
    """
    if targets:
        done = dry_run(config, *targets)
        planned = done.stdout + done.stderr
        wrong = re.search(r"No rule to produce (.+?) \(if|Target rules may not contain", planned)
        if wrong:
            raise UserError(
                f"{wrong.group(1) or ', '.join(targets)}: no such target; "
                "`snakemake --list-target-rules` lists the possible rules"
            )
        if "measure_transformers" not in planned:
            return
    require_transformers(settings)


def dry_run(config: Path, *targets: str) -> subprocess.CompletedProcess[str]:
    """Does a dry run of Snakemake, which starts nothing and takes no lock."""
    command = [program("snakemake"), "--configfile", str(config), "--dry-run", "--nolock"]
    return subprocess.run(
        [*command, "--quiet", "rules", "--", *targets],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def require_transformers(settings: Config) -> None:
    """Checks the images and weights of pretrained models that are not yet measured.

    Args:
        settings: the configuration.

    Raises:
        DataError: images or weights are missing.
    """
    study = settings.transformers
    if study.pretrained is None:
        return
    measured = layout.results_of(settings.name) / layout.VIT_MEASURED
    waiting = [
        block for block in study.blocks if not Path(str(measured).format(block=block)).exists()
    ]
    tags = [model.name for model in study.models]
    models = [tags[index] for block in waiting for index in seeds_of(block)]
    inherited = os.environ | study.pretrained.exports  # as the jobs will see it
    if models:
        require_pretrained(
            models,
            inherited.get(IMAGES_DIR),
            inherited.get(WEIGHTS_DIR),
            study.pretrained.download,
        )


@contextmanager
def sole_run() -> Iterator[None]:
    """Locks this folder against other runs.

    Yields:
        Nothing, when no other run is active here.

    Raises:
        UserError: another run is active here.
        DataError: the folder cannot be written.
    """
    lock = Path(".snakemake/flatness-run.lock")
    require_writable(lock.parent)
    try:
        with FileLock(lock, timeout=0):
            refuse_beside_living_snakemake()
            yield
    except Timeout:
        raise UserError(
            f"{Path.cwd()}: another run is active here; wait for it to end, or stop it"
        ) from None


def require_writable(folder: Path) -> None:
    """Creates a folder, if needed, and a file in it, which is deleted at once.

    Args:
        folder: where a run will write.

    Raises:
        DataError: the operating system refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written: {error.strerror}; free space or fix its permissions and "
            "run again"
        ) from error


def load_config(path: Path) -> Config:
    """Reads and checks a configuration file.

    Args:
        path: a YAML file.

    Returns:
        The typed configuration.

    Raises:
        UserError: no such file, not YAML (with the line), or a wrong key.
    """
    try:
        return validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def refuse_beside_living_snakemake() -> None:
    """Looks for a Snakemake that was started otherwise: its lock is not a stale one.

    Raises:
        UserError: such a Snakemake is running in this folder.
    """
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            line, folder = process.cmdline(), process.cwd()
        except psutil.Error:
            continue
        program = next((part for part in line[:2] if Path(part).name == "snakemake"), None)
        if program and Path(folder) == Path.cwd():
            raise UserError(
                f"{folder}: Snakemake (process {process.pid}) is running here; "
                "wait for it to end, or stop it"
            )
