"""A finished run of the tiny config, shared by the tests of what follows a run."""

import shutil

import pytest
from filelock import FileLock

from flatness.records.machine import instruction_set
from workflow import tiny, traced


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, worker_id):
    """A checkout with a finished run; not to be changed. Made once for all of pytest's workers."""
    own = tmp_path_factory.getbasetemp()
    finished = (own if worker_id == "master" else own.parent) / "finished"
    with FileLock(f"{finished}.lock"):
        if not finished.exists():
            folder = tiny.check_out(tmp_path_factory.mktemp("tiny") / "checkout")
            tiny.write_config(folder / "tiny.yaml", tiny.tiny_values())
            tracer = shutil.copy(traced.__file__, folder / "workflow/sitecustomize.py")
            done = tiny.flatness(folder, "run", "tiny.yaml", timeout=900)
            assert done.returncode == 0, done.stdout + done.stderr
            assert f"instruction set {instruction_set()}," in done.stdout.splitlines()[0]
            tracer.unlink()
            folder.rename(finished)
    return finished


@pytest.fixture
def finished(finished_run, tmp_path):
    """A copy of the finished run, times and Snakemake's records included, to be changed freely."""
    return shutil.copytree(finished_run, tmp_path / "moved")
