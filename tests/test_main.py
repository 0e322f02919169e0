"""The command line: exit codes, one-line errors, and only what a verb needs is imported."""

import inspect
import os
import re
import subprocess
import sys

import pytest

from checkout import ROOT
from flatness.__main__ import STEPS, VERBS, _function, _namesake, main

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "workflow")}


def flatness(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "flatness", *arguments],
        env=ENVIRONMENT | environment,
        capture_output=True,
        encoding="utf-8",
    )


def test_help_lists_every_verb_those_of_the_rules_last():
    shown = flatness("--help", COLUMNS="200")
    assert shown.returncode == 0
    users, steps = shown.stdout.split("Steps of the workflow")
    assert all((f"│ {verb} " in steps) == (verb in STEPS) for verb in VERBS)
    assert all((f"│ {verb} " in users) == (verb not in STEPS) for verb in VERBS)


@pytest.mark.parametrize("arguments", [["--help"], ["mesure"]])
def test_a_list_of_verbs_imports_none_of_them(arguments):
    code = f"import sys; from flatness.__main__ import main; main({arguments}); "
    code += "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT).returncode == 0


def test_the_version_is_shown_with_its_commit(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(
        r"flatness \S.*, commit (\w{7,})( and changed since)?\n", capsys.readouterr().out
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out
    assert _namesake(verb).__doc__ == inspect.getdoc(_function(verb))


def test_an_unknown_verb_or_option_exits_with_2(capsys):
    assert main(["measures"]) == 2
    assert main(["draw-epfl-fig1", "--colour", "red"]) == 2
    assert "colour" in capsys.readouterr().err


def test_a_users_mistake_is_one_line_without_a_traceback():
    shown = flatness("run", "nowhere.yaml")
    assert shown.returncode == 2
    assert shown.stderr.strip() == "error: nowhere.yaml: cannot be read: No such file or directory"


LOCALES = {
    "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "Latin-1 output": {"PYTHONIOENCODING": "latin-1"},
}


@pytest.mark.parametrize("locale", LOCALES)
def test_characters_that_a_locale_lacks_do_not_stop_a_command(locale):
    shown = flatness("run", "ρ.yaml", **LOCALES[locale])
    assert shown.returncode == 2
    assert re.fullmatch(r"error: \?+\.yaml: cannot be read: No such file .*\n", shown.stderr)
    assert flatness("measure", "--help", **LOCALES[locale]).returncode == 0


def test_text_files_are_utf_8_in_every_locale():
    code = "from flatness.pipeline.code_version import code_version as v; "
    code += "print(v('flatness.report.page'), v('flatness.studies.epfl.draw.fig1'))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env=ENVIRONMENT | locale, capture_output=True, check=True
        ).stdout
        for locale in ({"PYTHONUTF8": "1"}, LOCALES["ASCII"])
    }
    assert len(found) == 1


def test_only_fetching_training_and_measuring_import_torch():
    """Starting PyTorch takes seconds of every job."""
    heavy = ("fetch", "train", "measure", "take", "pin", "cross-defects")
    modules = {VERBS[verb].split(":")[0] for verb in VERBS if not verb.startswith(heavy)}
    code = f"import sys, flatness.pipeline.config, {', '.join(sorted(modules))}; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT).returncode == 0
    assert len(modules) > 15


def test_several_verbs_run_in_turn_until_one_fails(tmp_path, capsys):
    tables = [tmp_path / f"{name}.csv" for name in "abc"]
    made = [["dictionary", f"--output={table}"] for table in tables]
    wrong = ["dictionary", "--colour=red"]
    assert main([*made[0], "--then", *made[1], "--then", *wrong, "--then", *made[2]]) == 2
    assert [table.exists() for table in tables] == [True, True, False]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    assert "colour" in capsys.readouterr().err


def test_malformed_settings_are_one_line(capsys):
    options = ["--pool", "gat", "--trained", "written", "--measured", "written"]
    files = ["--training=t", "--measurements=m", "--models=o", "--output=p", "--published=q"]
    assert main(["correlate-epfl", *options, "--statistics", '{"resamples": 3}', *files]) == 2
    assert capsys.readouterr().err.startswith("error: settings given as JSON: resamples: ")
