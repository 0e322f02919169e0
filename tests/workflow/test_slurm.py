"""On SLURM: the tables of a local run; a job cut off goes on in the next run."""

import importlib.util
import shutil
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from workflow import tiny

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("sbatch")
        or subprocess.run(["sinfo"], capture_output=True, timeout=60).returncode != 0,
        reason="no SLURM here (sbatch is missing or no controller answers)",
    ),
    pytest.mark.skipif(
        not importlib.util.find_spec("snakemake_executor_plugin_slurm"),
        reason="the SLURM plugin is not installed: pip install -r envs/slurm.lock",
    ),
]
TARGETS = ("epfl", "chen")


def check_out(folder, **options):
    """A checkout whose SLURM profile looks for finished jobs sooner than a busy cluster would."""
    tiny.check_out(folder)
    path = folder / "profiles/slurm/config.yaml"
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    profile |= {"slurm-init-seconds-before-status-checks": 2, "latency-wait": 10} | options
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")
    return folder


def run(folder, *targets):
    command = ("run", "tiny.yaml", *targets, "--profile", "profiles/slurm")
    return tiny.flatness(folder, *command, timeout=900)


def test_a_cluster_gives_the_tables_of_a_local_run(finished_run, tmp_path):
    folder = check_out(tmp_path / "cluster")
    shutil.copy(finished_run / "tiny.yaml", folder)
    done = run(folder, *TARGETS)
    assert done.returncode == 0, done.stderr
    said = (folder / "results/tiny/logs/run.log").read_text(encoding="utf-8")
    assert "SLURM jobid" in said or "SLURM run ID" in said
    found = tiny.tables(folder)
    everything = tiny.tables(finished_run)
    assert len(found) >= 12
    assert found == {path: everything[path] for path in found}


def wait_for(reason, condition, seconds=240):
    """What the condition gives once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s for {reason}")


def start(folder, target):
    command = [sys.executable, "-m", "flatness", "run", "tiny.yaml", target]
    return subprocess.Popen(
        [*command, "--profile", "profiles/slurm"], cwd=folder, env=tiny.environment(folder),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
    )  # fmt: skip


def ending(process):
    """What a run said, once it has ended; one that does not is stopped."""
    try:
        return process.communicate(timeout=240)[0]
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        raise


@pytest.mark.parametrize(
    ("command", "status"),
    [(["scancel"], "CANCELLED"), (["scontrol", "update", "EndTime=now"], "TIMEOUT")],
)
def test_a_job_cut_off_goes_on_in_the_next_run(tmp_path, command, status):
    """Cancelled, or stopped at its time limit, which is moved to now."""
    folder = check_out(tmp_path / "cluster", retries=0)
    tiny.save_often(folder)
    values = tiny.longer_values()
    values["chen"]["families"]["mlp_tanh"]["iterations"] = 20_000  # SLURM looks at limits each 30 s
    tiny.write_config(folder / "tiny.yaml", values)
    target = "results/tiny/checkpoints/chen/mlp_tanh/lr0.05_batch20/0-0.csv"

    process = start(folder, target)
    wait_for("steps", lambda: max(tiny.trained_steps(folder).values(), default=0) >= 1000)
    shown = tiny.call(folder, "squeue", "--noheader", "--format=%i %Z").stdout.splitlines()
    (job,) = (line.split()[0] for line in shown if line.endswith(str(folder)))
    subprocess.run([*command, f"JobId={job}" if "update" in command else job], check=True)
    message = ending(process)
    assert process.returncode == 2
    assert status in message
    assert not (folder / target).exists()
    ((state, reached),) = tiny.trained_steps(folder).items()

    process = start(folder, target)
    after = wait_for("more steps", lambda: tiny.trained_steps(folder).get(state, reached) - reached)
    assert after > 0, "it began again from the start"
    message = ending(process)
    assert process.returncode == 0, message
    assert (folder / target).exists()
