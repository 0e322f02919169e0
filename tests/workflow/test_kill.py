"""Runs killed with all their processes go on by the same command, to the same bytes."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest

from workflow import tiny
from workflow.tiny import trained_steps

pytestmark = pytest.mark.slow

#: At which moments to kill, in this order: a job of the stage is seen, then a random wait.
AIMS = ["fetch"] * 3 + ["train"] * 4 + ["resume"] * 6 + ["measure"] * 3 + ["draw"] * 4
#: Longest wait after a job is seen, in seconds: shorter than starting Python takes.
WAITS = {"fetch": 1.0, "train": 1.5, "resume": 0.5, "measure": 1.0, "draw": 0.8}
LEAST = {"fetch": 3, "train": 3, "resume": 5, "measure": 3, "draw": 3}
TARGETS = ("epfl", "chen")


def check_out(folder):
    """A checkout whose trainings last and are saved often, so that there is much to resume."""
    tiny.check_out(folder)
    tiny.save_often(folder)
    tiny.write_config(folder / "tiny.yaml", tiny.longer_values())
    return folder


def start(folder, *targets):
    """The plain command, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "flatness", "run", "tiny.yaml", *(targets or TARGETS)],
        cwd=folder,
        env=tiny.environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=(folder / "stderr.log").open("a", encoding="utf-8"),
        start_new_session=True,
    )


def finish(folder):
    process = start(folder)
    assert process.wait(600) == 0, (folder / "stderr.log").read_text(encoding="utf-8")[-5000:]


def jobs(process):
    """Stage and process of each running job."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error, IndexError):
                line = child.cmdline()
                if line[1:3] == ["-m", "flatness"] and line[3] != "run":  # forked, not yet exec'd
                    found.append((line[3].split("-")[0], child))
    return found


def resumed(before, now):
    """Whether a training that had been begun before has gone on."""
    return any(now.get(path, 0) > step > 0 for path, step in before.items())


def wait_for(aim, process, folder, before):
    """Waits for a job of a stage, or for a begun training to go on; False if the run ends first."""
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if aim == "resume":
            steps = trained_steps(folder)
            begun = before.keys() & steps.keys()
            seen = resumed(before, steps) if begun else any(steps.values())
        else:
            seen = any(stage == aim for stage, _ in jobs(process))
        if seen:
            return True
        time.sleep(0.05)
    return False


def kill_group(process):
    """Kills a run and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_leaders(process):
    """Kills a run and its Snakemake; their jobs live on."""
    for child in psutil.Process(process.pid).children():
        child.kill()
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = check_out(tmp_path_factory.mktemp("kill") / "undisturbed")
    process = start(folder)
    assert wait_for("fetch", process, folder, {})
    second = tiny.flatness(folder, "run", "tiny.yaml")
    assert second.returncode == 2
    assert f"{folder}: another run is active here" in second.stderr
    assert process.wait(600) == 0, (folder / "stderr.log").read_text(encoding="utf-8")[-5000:]
    return tiny.tables(folder)


def test_killed_twenty_times_it_ends_with_the_same_tables(undisturbed, tmp_path):
    folder = check_out(tmp_path / "disturbed")
    draw = random.Random(0)
    hits, groups = Counter(), []
    try:
        for number, aim in enumerate(AIMS):
            before = trained_steps(folder)
            groups.append(start(folder))
            assert wait_for(aim, groups[-1], folder, before), f"kill {number}: no {aim} seen"
            time.sleep(draw.uniform(0, WAITS[aim]))
            running = {stage for stage, _ in jobs(groups[-1])}
            # After the first resumed training the jobs live on as orphans beside the next run.
            (kill_leaders if number == 8 else kill_group)(groups[-1])
            now = trained_steps(folder)
            assert all(now.get(path, step) >= step for path, step in before.items())
            hits.update(running | ({"resume"} if resumed(before, now) else set()))
        finish(folder)
    finally:
        for process in groups:
            kill_group(process)
    print(f"kills that hit: {dict(hits)}")
    assert len(AIMS) == 20
    assert all(hits[stage] >= least for stage, least in LEAST.items()), hits
    assert len(undisturbed) >= 10
    assert tiny.tables(folder) == undisturbed


def test_a_job_killed_alone_goes_on_by_the_same_command(undisturbed, tmp_path):
    folder = check_out(tmp_path / "alone")
    process = start(folder)
    try:
        assert wait_for("resume", process, folder, {})
        victim = next(child for stage, child in jobs(process) if stage == "train")
        victim.kill()
        assert process.wait(300) == 2
    finally:
        kill_group(process)
    assert "stopped before its end" in (folder / "stderr.log").read_text(encoding="utf-8")
    finish(folder)
    assert tiny.tables(folder) == undisturbed
