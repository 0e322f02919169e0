"""Strings of a config never reach a shell unquoted: not names, paths, seeds, arguments, folders."""

import pytest

from flatness.errors import UserError
from flatness.pipeline.config import validate
from workflow import tiny

EVIL = "x'; touch pwned; '$(touch pwned)"


def evil_values():
    values = tiny.tiny_values()
    values["data"]["mirror"] = f"/nowhere/{EVIL}"
    model = values["transformers"]["trained"]["models"][0]
    model |= {"constructor": EVIL, "arguments": {EVIL: EVIL}}
    values["transformers"]["trained"]["models"] = [model]
    return values


def test_a_run_with_evil_strings_executes_none(tmp_path):
    """In a folder with an evil name too; the training ends with its own message."""
    folder = tiny.check_out(tmp_path / EVIL.replace("/", ""))
    tiny.write_config(folder / "tiny.yaml", evil_values())
    target = "results/tiny/checkpoints/transformers/0-0.safetensors"
    command = ["snakemake", "--configfile", "tiny.yaml", "--cores", "1", "--"]
    done = tiny.call(folder, *command, target)
    assert done.returncode != 0
    assert (folder / "data/digits32.safetensors").exists()
    assert f"timm cannot build {EVIL} with" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("name",), EVIL),
        (("statistics", "seed"), "0; touch pwned"),
        (("epfl", "pools", "fcnn", "dataset"), EVIL),
        (("chen", "families"), {EVIL: {}}),
        (("epfl", "pools"), {EVIL: {}}),
        (("transformers", "trained", "models"), [{"name": EVIL, "constructor": "x"}]),
    ],
)
def test_evil_names_and_seeds_are_refused(path, value):
    values = inner = tiny.tiny_values()
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(UserError, match=str(path[0])):
        validate(values)
