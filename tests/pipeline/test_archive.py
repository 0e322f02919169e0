"""Archives and manifests: what is not as recorded is refused, and nothing is written outside.

Real runs are archived and adopted in workflow/test_reruns.
"""

import copy
import hashlib
import io
import json
import shutil
import tarfile
from base64 import urlsafe_b64encode
from datetime import datetime
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from flatness.errors import DataError, UserError
from flatness.pipeline.archive import pack, unpack
from flatness.pipeline.config import validate
from flatness.pipeline.manifest import (
    File,
    read_manifest,
    require_untouched,
    verify,
    write_manifest,
)
from flatness.pipeline.snakemake_records import RECORDS, manifest_path
from flatness.pipeline.take_over import check_device, restore, take_over_if_foreign
from workflow.tiny import tiny_values, write_config

TABLE = "results/tiny/correlations/a.csv"
WEIGHTS = "results/tiny/checkpoints/a.safetensors"
SETTINGS = validate(tiny_values())
PARAMS = ["'0123456789ab'", "'{\"seeds\":2}'"]


def record(path, content, late=0.0):
    """A file and Snakemake's record of the job that made it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    key = urlsafe_b64encode(str(path).encode()).decode()
    pieces = [key[start : start + 20] for start in range(0, len(key), 20)]
    where = RECORDS.joinpath(*(f"@{piece}" for piece in pieces[:-1]), pieces[-1])
    where.parent.mkdir(parents=True, exist_ok=True)
    end = path.stat().st_mtime - late
    content = {"rule": "made_up", "starttime": end - 60, "endtime": end, "conda_env": "long"}
    content["params"] = PARAMS
    where.write_text(json.dumps(content), encoding="utf-8")
    return where


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The working folder: one table and one data set, with their manifest."""
    monkeypatch.chdir(tmp_path)
    record(tmp_path.joinpath(TABLE).relative_to(tmp_path), "a,b\n1,2\n")
    record(tmp_path.joinpath(WEIGHTS).relative_to(tmp_path), "weights")
    record(tmp_path.joinpath("data/digits.safetensors").relative_to(tmp_path), "data")
    write_manifest(SETTINGS)
    return tmp_path


def manifest():
    return read_manifest(manifest_path("tiny"))


def test_the_manifest_says_what_made_the_results(results):
    found = manifest()
    assert found.config == SETTINGS.model_dump(mode="json")
    assert len(found.config_hash) == 12
    assert found.packages["torch"] and found.python and found.commit
    assert set(found.files) == {TABLE, WEIGHTS, "data/digits.safetensors"}
    assert found.files[TABLE].record["rule"] == "made_up"
    verify(found, results)


def test_records_and_times_come_back(results):
    kept = manifest()
    where = RECORDS / kept.files[TABLE].record_path
    where.unlink()
    (results / TABLE).touch()
    restore(kept)
    came_back = json.loads(where.read_text(encoding="utf-8"))
    assert (came_back["rule"], came_back["params"]) == ("made_up", PARAMS)
    assert (results / TABLE).stat().st_mtime_ns == kept.files[TABLE].modified_ns


def test_parameters_that_files_share_stand_once(results):
    assert list(manifest().params.values()) == [PARAMS]


def test_a_changed_file_is_named(results):
    (results / TABLE).write_text("a,b\n1,3\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.csv: its content does not match"):
        verify(manifest(), results)


@pytest.mark.parametrize("path", [TABLE, WEIGHTS, "data/digits.safetensors"])
def test_files_that_were_not_copied_are_accepted(results, path):
    (results / path).unlink()
    verify(manifest(), results)


def test_missing_weights_keep_the_record_of_their_job(results):
    """A training has other outputs; without this one's record Snakemake would judge none."""
    where = RECORDS / manifest().files[WEIGHTS].record_path
    (results / WEIGHTS).unlink()
    (results / TABLE).unlink()
    for _ in range(2):  # in the clone of a clone too
        found = write_manifest(SETTINGS)
        assert set(found.files) == {WEIGHTS, "data/digits.safetensors"}
        assert found.files[WEIGHTS].sha256 == ""
        where.unlink()
        restore(found)
        assert json.loads(where.read_text(encoding="utf-8"))["rule"] == "made_up"


def test_weights_that_should_be_gone_are_not_trusted(results):
    (results / WEIGHTS).unlink()
    write_manifest(SETTINGS)
    (results / WEIGHTS).write_text("others", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.safetensors: its content does not match"):
        verify(manifest(), results)


def test_a_clone_takes_its_tables_over_and_a_home_keeps_its_records(results):
    config = write_config(results / "tiny.yaml", tiny_values())
    table = RECORDS / manifest().files[TABLE].record_path
    table.write_text('{"rule": "newer"}', encoding="utf-8")
    take_over_if_foreign(SETTINGS, config)
    assert json.loads(table.read_text(encoding="utf-8"))["rule"] == "newer"
    shutil.rmtree(RECORDS)
    (results / WEIGHTS).unlink()
    take_over_if_foreign(SETTINGS, config)
    assert json.loads(table.read_text(encoding="utf-8"))["rule"] == "made_up"


def test_a_file_that_no_job_made_is_named(results):
    (results / "results/tiny/correlations/.a.csv.half").write_text(
        "left by a kill", encoding="utf-8"
    )
    verify(manifest(), results)
    (results / "results/tiny/correlations/b.csv").write_text("a,b\n5,6\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.csv: not in the manifest"):
        verify(manifest(), results)


def test_a_table_edited_after_its_job_is_not_archived(results):
    require_untouched(manifest())
    record((results / TABLE).relative_to(results), "a,b\n1,9\n", late=60)
    with pytest.raises(DataError, match=r"a\.csv: changed after the job"):
        require_untouched(write_manifest(SETTINGS))


def test_a_folder_without_results_is_not_archived(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="results/tiny: no results here"):
        require_untouched(write_manifest(SETTINGS))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (TABLE, "results/../../outside.csv"),
        (TABLE, "/etc/passwd"),
        ('"record_path":"', '"record_path":"../../'),
        ('"record_path":"', '"record_path":"/tmp/'),
        ('"params":"', '"params":"f'),
        ("{", "["),
    ],
)
def test_a_manifest_that_reaches_outside_or_is_damaged_is_refused(results, old, new):
    path = manifest_path("tiny")
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError, match=r"manifest\.json: damaged"):
        manifest()


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read"):
        read_manifest(tmp_path / "manifest.json")


def test_results_of_another_device_or_config_are_explained(results):
    found = manifest()
    config = results / "tiny.yaml"
    check_device(found, SETTINGS, config)
    with pytest.raises(UserError, match=r"tiny\.yaml: .*computed on cuda.*write device: cuda"):
        check_device(found.model_copy(update={"device": "cuda"}), SETTINGS, config)
    with pytest.raises(UserError, match="describes results of other"):
        check_device(found.model_copy(update={"name": "other"}), SETTINGS, config)
    trained = copy.deepcopy(found.config)
    family, values = next(iter(trained["chen"]["families"].items()))
    values["train_on"] = "cuda"
    elsewhere = found.model_copy(update={"config": trained})
    check_device(elsewhere, SETTINGS, config)  # there is nothing of this family
    weights = {f"results/tiny/checkpoints/chen/{family}/lr0.1_batch8/0-0.csv": File()}
    elsewhere = elsewhere.model_copy(update={"files": weights})
    with pytest.raises(UserError, match=rf"{family} was trained on cuda: write train_on: cuda"):
        check_device(elsewhere, SETTINGS, config)
    values["train_on"] = "cpu"  # as the run's device
    check_device(elsewhere, SETTINGS, config)


def archived(results):
    path = results / "tiny.tar"
    pack(path, write_config(results / "tiny.yaml", tiny_values()), manifest())
    (results / "results").rename(results / "away")
    return path


def test_an_archive_holds_results_settings_and_environment(results):
    with tarfile.open(archived(results)) as tar:
        names = {name.removeprefix("flatness-tiny/") for name in tar.getnames()}
    assert {TABLE, "results/tiny/manifest.json", "config.yaml"} <= names
    assert {"envs/requirements.lock", "LICENSE", "CITATION.cff"} <= names
    assert not any(name.startswith("data/") for name in names)


def test_an_archive_tells_others_what_ran_on_what_and_what_came_out(results):
    with tarfile.open(archived(results)) as tar:
        tar.extractall(results / "away", filter="data")
    root = results / "away/flatness-tiny"
    crate = ROCrate(root)
    assert crate.mainEntity.id == "workflow/Snakefile"
    assert crate.mainEntity.lang.id.endswith("#snakemake")
    assert "https://w3id.org/ro/wfrun/workflow/0.5" in {
        profile.id for profile in crate.root_dataset["conformsTo"]
    }
    files = [entity for entity in crate.data_entities if "File" in entity.type]
    assert {"config.yaml", "CITATION.cff", TABLE, WEIGHTS} < {file.id for file in files}
    assert all((root / file.id).is_file() for file in files)

    run = crate.get("#run")
    assert run["instrument"] is crate.mainEntity
    start, end = (datetime.fromisoformat(run[name]) for name in ("startTime", "endTime"))
    assert 59 <= (end - start).total_seconds() <= 62
    assert abs(end.timestamp() - (root / TABLE).stat().st_mtime) < 2
    assert run["agent"].type == "Organization"
    assert {entity.id for entity in run["object"]} == {"config.yaml", "#data/digits.safetensors"}
    table = next(entity for entity in run["result"] if entity.id == TABLE)
    assert table["sha256"] == hashlib.sha256(b"a,b\n1,2\n").hexdigest()
    software = crate.mainEntity["softwareRequirements"]
    software = {entity["name"]: entity["softwareVersion"] for entity in software}
    assert software["torch"] == read_manifest(root / manifest_path("tiny")).packages["torch"]


def test_an_archive_holds_the_code_without_what_python_writes_beside_it(results):
    with tarfile.open(archived(results)) as tar:
        names = tar.getnames()
    assert "flatness-tiny/workflow/rules/main.smk" in names
    assert "flatness-tiny/Snakefile" in names
    assert not [name for name in names if "__pycache__" in name or "egg-info" in name]


def test_an_archive_is_unpacked_verified_and_never_over_results(results):
    path = archived(results)
    unpack(path, "tiny")
    assert (results / TABLE).read_text(encoding="utf-8") == "a,b\n1,2\n"
    with pytest.raises(UserError, match="results/tiny: there are results here"):
        unpack(path, "tiny")


def test_a_tampered_archive_leaves_nothing(results):
    path = archived(results)
    path.write_bytes(path.read_bytes().replace(b"a,b\n1,2\n", b"a,b\n1,7\n"))
    with pytest.raises(DataError, match=r"a\.csv: its content does not match"):
        unpack(path, "tiny")
    assert list((results / "results").iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"not a tar", "half"])
def test_a_damaged_archive_is_named(results, damage):
    path = archived(results)
    path.write_bytes(path.read_bytes()[:700] if damage == "half" else damage)
    with pytest.raises(DataError, match=r"tiny\.tar: damaged"):
        unpack(path, "tiny")


def member(name, **values):
    made = tarfile.TarInfo(name)
    made.size = 0 if values else 4
    for key, value in values.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize(
    "evil",
    [
        member("../../outside"),
        member("/tmp/flatness-outside"),
        member("flatness-tiny/link", type=tarfile.SYMTYPE, linkname="/etc"),
        member("flatness-tiny/link", type=tarfile.LNKTYPE, linkname="../../outside"),
        member("flatness-tiny/device", type=tarfile.CHRTYPE),
    ],
)
def test_an_archive_cannot_write_outside_its_folder(tmp_path, monkeypatch, evil):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    with tarfile.open(folder / "evil.tar", "w") as tar:
        tar.addfile(evil, io.BytesIO(b"evil"))
    # An absolute name alone is no error: it loses its first slash.
    with pytest.raises(UserError, match=r"evil\.tar: (damaged or not safe|contains no results)"):
        unpack(folder / "evil.tar", "tiny")
    assert not Path("/tmp/flatness-outside").exists()
    assert not [path for path in tmp_path.rglob("*") if path.name == "outside"]
    assert list((folder / "results").iterdir()) == []
