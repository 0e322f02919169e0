"""A job that a signal ended: one line says which, where, what to try; its command is in a log."""

import re
import sys

import pytest

from flatness.pipeline.config import validate
from flatness.pipeline.stopped import explanation
from workflow import tiny

#: A Python whose trainings end by a signal once they have begun.
FRAGILE = """#!/bin/bash
case "$3" in
    train-epfl) echo "seed 1: 40 %" >&2; kill -SEGV $$ ;;
    train-chen) kill -KILL $$ ;;
    *) exec {python} "$@" ;;
esac
"""
EPFL = "results/tiny/checkpoints/epfl/fcnn/written/0-1.csv"
CHEN = "results/tiny/checkpoints/chen/mlp_tanh/{setting}/{block}.csv"


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A folder where a job of each study was ended, and what Snakemake said."""
    folder = tiny.check_out(tmp_path_factory.mktemp("stopped") / "checkout")
    values = tiny.tiny_values()
    tiny.write_config(folder / "tiny.yaml", values)
    python = folder / "fragile/python"
    python.parent.mkdir()
    python.write_text(FRAGILE.format(python=sys.executable))
    python.chmod(0o755)
    family = validate(values).chen.families["mlp_tanh"]
    chen = CHEN.format(setting=family.settings[0].name, block=family.blocks[0])
    done = tiny.call(
        folder, "env", f"PATH={python.parent}:{tiny.environment(folder)['PATH']}",
        "snakemake", "--configfile", "tiny.yaml", "--", EPFL, chen,
    )  # fmt: skip
    assert done.returncode == 1
    return folder, done.stderr


def lines(text, verb):
    return {line for line in text.splitlines() if line.startswith(f"error: {verb} (")}


@pytest.mark.parametrize(
    ("verb", "log", "signal", "said"),
    [
        ("train-epfl", "train/epfl/fcnn/written/0-1.log", "SIGSEGV", "seed 1: 40 %"),
        ("train-chen", "train/chen/mlp_tanh/", "SIGKILL", ""),
    ],
)
def test_one_line_names_job_signal_and_where_it_was(failed, verb, log, signal, said):
    folder, shown = failed
    [line] = lines(shown, verb)
    assert f"results/tiny/logs/{log}" in line
    assert signal in line and said in line
    named = folder / re.search(r"\((.+?)\)", line).group(1)
    assert lines(named.read_text(encoding="utf-8"), verb) == {line}


def test_commands_stay_in_snakemakes_log(failed):
    folder, shown = failed
    assert "Error in rule train_epfl" in shown
    assert '{"' not in shown
    [log] = (folder / ".snakemake/log").glob("*.log")
    assert "train-epfl --experiment" in log.read_text(encoding="utf-8")
    assert str(log) in shown


def test_an_unknown_signal_and_a_command_of_another_program_are_named(tmp_path):
    line = explanation(128 + 63, "FLATNESS_RESULTS=x jupyter nbconvert", None)
    assert "jupyter nbconvert" in line and "63" in line
