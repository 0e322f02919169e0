"""The command line: exit codes, one-line errors, and only what a verb needs is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flatness.__main__ import VERBS, main

ROOT = Path(__file__).parents[1]


def flatness(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "flatness", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")} | environment,
        capture_output=True,
        text=True,
    )


def test_help_lists_every_verb():
    shown = flatness("--help", COLUMNS="200")
    assert shown.returncode == 0
    assert all(f" {verb} " in shown.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_an_unknown_verb_or_option_exits_with_2(capsys):
    assert main(["measures"]) == 2
    assert main(["draw-epfl-fig1", "--colour", "red"]) == 2
    assert "colour" in capsys.readouterr().err


def test_a_users_mistake_is_one_line_without_a_traceback():
    shown = flatness("run", "nowhere.yaml")
    assert shown.returncode == 2
    assert shown.stderr.strip() == "error: nowhere.yaml: cannot be read: No such file or directory"


def test_drawing_does_not_import_torch():
    code = "import sys, flatness.epfl.draw; sys.exit('torch' in sys.modules)"
    environment = {"PYTHONPATH": str(ROOT / "workflow"), "HOME": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_malformed_settings_are_one_line(capsys):
    options = ["--pool", "gat", "--trained", "written", "--measured", "written"]
    files = ["--training=t", "--measurements=m", "--models=o", "--output=p"]
    assert main(["correlate-epfl", *options, "--statistics", '{"resamples": 3}', *files]) == 2
    assert capsys.readouterr().err.startswith("error: settings given as JSON: resamples: ")
