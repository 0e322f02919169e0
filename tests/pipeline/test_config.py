"""The configuration: three files fit the model; a wrong key is named with what is allowed."""

import subprocess
from functools import reduce
from pathlib import Path

import pytest

from checkout import ROOT, shipped
from flatness.errors import UserError
from flatness.pipeline.config import TAKEN_NAMES, settle_device, validate
from flatness.records.frozen import seed_blocks, seeds_of
from flatness.studies.epfl.config import measurement, training


@pytest.mark.parametrize("name", ["demo", "laptop", "paper"])
def test_the_shipped_configs_are_valid_and_have_the_same_keys(name):
    config = validate(shipped(name))
    assert config.name == name
    assert set(shipped(name)) == set(shipped("demo"))


def test_every_wrong_key_is_named_with_value_and_what_is_allowed():
    wrong = shipped()
    wrong["epfl"]["pools"]["fcnn"]["rho"] = -1
    wrong["epfl"]["protocol"] = "spoken"
    wrong["epfl"]["pools"]["gat"]["modles"] = 3
    del wrong["statistics"]["seed"]
    with pytest.raises(UserError) as caught:
        validate(wrong)
    message = str(caught.value)
    assert "epfl.pools.fcnn.rho: found -1: Input should be greater than 0" in message
    assert "epfl.protocol: found 'spoken': Input should be 'written' or 'released'" in message
    assert "epfl.pools.gat.modles: no such key" in message
    assert "statistics.seed: this key is missing" in message


def test_jobs_on_another_machine_take_over_the_device_that_was_found(monkeypatch):
    monkeypatch.setenv("FLATNESS_DEVICE", "")
    monkeypatch.delenv("FLATNESS_DEVICE")
    found = validate(shipped())
    monkeypatch.setattr("flatness.pipeline.config.Path.exists", lambda path: True)
    assert settle_device(found) == "cuda"
    monkeypatch.setattr("flatness.pipeline.config.Path.exists", lambda path: False)
    assert found.device_kind == "cuda"


@pytest.mark.parametrize("name", ["reference", "redrawn_laptop", "Reference"])
def test_a_name_of_kept_results_is_refused(name):
    with pytest.raises(
        UserError, match=f"name: found .{name}.: results/{name} is for kept results"
    ):
        validate(shipped() | {"name": name})


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_every_committed_results_folder_has_a_name_that_is_taken():
    command = ["git", "ls-files", "-z", "results"]
    listed = subprocess.run(
        command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout
    folders = {Path(path).parts[1] for path in listed.split("\0") if path}
    assert folders and folders <= set(TAKEN_NAMES)


def test_a_name_that_is_no_folder_name_is_refused():
    wrong = shipped() | {"name": "x; touch y"}
    families = wrong["chen"]["families"]
    families["Mine"] = families["mlp_relu"]
    wrong["transformers"]["trained"]["models"][0]["name"] = "a/b"
    with pytest.raises(UserError) as caught:
        validate(wrong)
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert lines[1:] == [
        "name: found 'x; touch y': a name has letters, digits, _ and - only",
        "chen.families.Mine: found 'Mine': a name has small letters, digits and _ only, and begins "
        "with a letter",
        "transformers.trained.models.0.name: found 'a/b': a name has letters, digits, _, . and - "
        "only",
    ]


FAMILY = "chen.families.mlp_relu"
TWICE = 2 * [{"learning_rate": 0.1, "batch_size": 20}]


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("cross", "families", ["resnet"], "cross.families: no resnet; chen.families has"),
        (FAMILY, "trend_seeds", 99, f"{FAMILY}: trend_seeds 99 exceeds seeds"),
        (FAMILY, "train_size", 1, f"{FAMILY}: batch_size 20 exceeds train_size 1"),
        (FAMILY, "samples", 9999, f"{FAMILY}: samples 9999 exceeds train_size"),
        (FAMILY, "settings", TWICE, f"{FAMILY}.settings: a setting occurs twice"),
        ("epfl.pools.fcnn", "min_epochs", 99, "epfl.pools.fcnn: min_epochs 99 exceeds"),
        ("epfl.audit.gat", "models", 9999, "epfl: audit.gat: few "),
    ],
)
def test_keys_that_do_not_fit_are_named_without_the_whole_config(part, key, value, message):
    wrong = shipped()
    reduce(lambda section, name: section[name], part.split("."), wrong)[key] = value
    with pytest.raises(UserError) as caught:
        validate(wrong)
    _, line = str(caught.value).splitlines()
    assert line.strip().startswith(message)
    assert "found" not in line and len(line) < 300


@pytest.mark.parametrize("dataset", ["x; touch y", "../x", "imagenet", "cora"])
def test_an_unknown_dataset_is_refused(dataset):
    wrong = shipped()
    wrong["epfl"]["pools"]["fcnn"]["dataset"] = dataset
    with pytest.raises(UserError, match=r"epfl.*fcnn"):
        validate(wrong)


def test_blocks_cover_all_seeds_once():
    assert seed_blocks(50, 25) == ["0-24", "25-49"]
    assert [s for block in seed_blocks(7, 3) for s in seeds_of(block)] == list(range(7))


@pytest.mark.parametrize("block", ["", "3", "a-b", "5-2", "1-2; touch x"])
def test_a_malformed_block_of_seeds_is_named(block):
    with pytest.raises(UserError, match="write the first and the last"):
        seeds_of(block)


def test_more_models_or_another_rho_do_not_change_training():
    more = shipped()
    more["epfl"]["pools"]["fcnn"]["models"] = 75
    more["epfl"]["pools"]["fcnn"]["rho"] = 0.5
    before, after = validate(shipped()).epfl, validate(more).epfl
    assert training(before, "fcnn", "written", "cpu") == training(after, "fcnn", "written", "cpu")
    assert measurement(before, "fcnn", "written", "written", "cpu") != measurement(
        after, "fcnn", "written", "written", "cpu"
    )
