"""The bar over a run: what reaches the terminal and what the log."""

import sys

import pytest

from flatness.pipeline.progress import run_with_bar


@pytest.fixture
def run(tmp_path, capsys):
    """Runs Python code as if it were Snakemake; gives exit code, what is shown, and the log."""

    def call(code):
        log = tmp_path / "logs/run.log"
        done = run_with_bar([sys.executable, "-c", code], log)
        return done, capsys.readouterr().out.splitlines()[1:], log.read_text(encoding="utf-8")

    return call


STEPS = "\n".join(f"print('{n} of 40 steps ({2.5 * n:.0f}%) done')" for n in range(1, 41))


def test_without_a_terminal_a_line_is_shown_for_each_tenth_of_the_jobs(run):
    code, shown, log = run(STEPS)
    assert code == 0
    assert len(shown) == 10
    assert shown[0].startswith("4 of 40") and shown[-1].startswith("40 of 40")
    assert log.count("steps") == 40


def test_errors_of_jobs_are_shown_once_and_the_flood_is_not(run):
    flood = "[print('rule train:', n) for n in range(500)]\n"
    error = "import sys; print('error: fcnn: no such file', file=sys.stderr, flush=True)\n"
    code, shown, log = run(flood + error + error + "sys.exit(1)")
    assert code == 1
    assert shown == ["error: fcnn: no such file"]
    assert log.count("rule train") == 500


def test_a_failure_that_no_job_explains_shows_the_end_of_the_log(run):
    lines = "[print('line', n) for n in range(500)]\nprint('warning: rows differ')\n"
    code, shown, _ = run(lines + "raise SystemExit('WorkflowError: [bold] no such file')")
    assert code == 1
    assert shown[0] == "warning: rows differ"
    assert shown[-1] == "WorkflowError: [bold] no such file"
    assert len(shown) < 30


def test_a_job_that_a_cluster_ended_is_an_error_with_its_status(run):
    message = (
        "    message: SLURM-job '42' failed, SLURM status is: 'TIMEOUT'. For further details see"
    )
    code, shown, _ = run(f"import sys; print({message!r}); sys.exit(1)")
    assert code == 1
    assert len(shown) == 1
    assert shown[0].startswith("error: SLURM-job '42' failed, SLURM status is: 'TIMEOUT'")
