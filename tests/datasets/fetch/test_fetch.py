from dataclasses import replace

import pytest

from datasets.fetch.publisher import files_under
from flatness.__main__ import main
from flatness.datasets.fetch import fetch
from flatness.datasets.normalised import load
from flatness.datasets.table import abalone
from flatness.errors import DataError, UserError


def test_unknown_data_set_lists_the_known(tmp_path):
    with pytest.raises(UserError, match=r"cifar100: no such data set; there are abalone, .*sbm"):
        fetch("cifar100", tmp_path / "out.safetensors")


@pytest.mark.parametrize("option", ["", "other"])
def test_option_wins_over_the_variable_and_an_empty_one_falls_back(tmp_path, monkeypatch, option):
    monkeypatch.setenv("FLATNESS_DATA_MIRROR", str(tmp_path / "variable"))
    chosen = str(tmp_path / option) if option else ""
    with pytest.raises(DataError, match=f"{tmp_path}/{option or 'variable'}/abalone/abalone.data"):
        fetch("abalone", tmp_path / "out.safetensors", mirror=chosen)


def test_no_room_for_the_temporary_copy_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=f"{tmp_path}/nowhere: cannot keep a temporary copy here"):
        fetch("abalone", tmp_path / "out.safetensors", mirror=str(tmp_path))


def test_no_network_and_no_mirror_is_one_line_without_a_traceback(
    publisher, tmp_path, monkeypatch, capfd
):
    publisher.server.server_close()
    monkeypatch.setattr(abalone, "SOURCE", replace(abalone.SOURCE, address=publisher.address))
    monkeypatch.setenv("FLATNESS_DATA_MIRROR", "")
    monkeypatch.chdir(tmp_path)
    code = main(["fetch", "--dataset", "abalone", "--output", "data/abalone.safetensors"])
    errors = capfd.readouterr().err
    assert code == 3
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert errors.splitlines()[-1] == line
    assert "`make`" in line and "data.mirror" in line and "FLATNESS_DATA_MIRROR" in line
    assert files_under(tmp_path / "data") == {}


def test_demo_data_need_neither_network_nor_mirror(tmp_path, monkeypatch):
    monkeypatch.setenv("FLATNESS_DATA_MIRROR", str(tmp_path / "nowhere"))
    output = tmp_path / "data" / "digits.safetensors"
    assert main(["fetch", "--dataset", "digits", "--output", str(output)]) == 0
    assert load(output).demo
    first = output.read_bytes()
    fetch("digits", output)
    assert output.read_bytes() == first
