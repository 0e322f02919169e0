"""The run command: refuses twins and wrong configs, and clears stale locks (tests/workflow)."""

import subprocess
import sys
import time

import pytest
from filelock import FileLock

from flatness.__main__ import main
from flatness.errors import UserError
from flatness.run import load_config, refuse_beside_living_snakemake

DEMO = "config/demo.yaml"


def test_broken_yaml_is_named_with_its_line(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("name: demo\nepfl: [unclosed\n")
    with pytest.raises(UserError, match=r"broken\.yaml: not valid YAML: .*line 3"):
        load_config(path)


def test_a_wrong_value_is_named_with_file_and_key(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("name: demo\nspeed: 3\n")
    with pytest.raises(UserError, match=r"(?s)wrong\.yaml: .*speed: no such key"):
        load_config(path)


def test_a_second_run_is_refused(tmp_path, monkeypatch, capsys, request):
    config = request.config.rootpath / DEMO
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake").mkdir()
    with FileLock(tmp_path / ".snakemake/flatness-run.lock"):
        assert main(["run", str(config)]) == 2
    assert "another run is going on here" in capsys.readouterr().err


def test_a_snakemake_started_by_hand_is_not_disturbed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse_beside_living_snakemake()
    fake = tmp_path / "snakemake"
    fake.write_text("import time\ntime.sleep(30)\n")
    process = subprocess.Popen([sys.executable, fake], cwd=tmp_path)
    try:
        time.sleep(0.3)
        with pytest.raises(UserError, match=f"process {process.pid}"):
            refuse_beside_living_snakemake()
    finally:
        process.kill()
        process.wait()
