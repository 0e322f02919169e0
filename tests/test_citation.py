"""What archives and indexes read about the project says what the project itself says."""

import json
import tomllib

import yaml

import flatness
from checkout import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
CODEMETA = json.loads((ROOT / "codemeta.json").read_text(encoding="utf-8"))
ZENODO = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))


def test_all_name_one_version():
    versions = {kind["version"] for kind in (CITATION, CODEMETA, ZENODO)}
    assert versions == {flatness.__version__}


def test_all_name_one_licence():
    licence = PROJECT["license"]
    assert CODEMETA["license"] == f"https://spdx.org/licenses/{licence}"
    assert CITATION["license"] == ZENODO["license"] == licence


def test_all_name_the_same_authors():
    authors = [author["name"] for author in CITATION["authors"]]
    assert [author["name"] for author in CODEMETA["author"]] == authors
    assert [author["name"] for author in ZENODO["creators"]] == authors


def test_all_describe_it_alike():
    assert CODEMETA["name"] == PROJECT["name"]
    assert CODEMETA["description"] == ZENODO["description"] == PROJECT["description"]
    assert ZENODO["title"] == CITATION["title"]
    assert CODEMETA["runtimePlatform"] == f"Python {PROJECT['requires-python']}"


def test_all_point_to_the_replicated_studies():
    studies = {study["url"]: study["title"] for study in CITATION["references"]}
    assert {each["url"]: each["name"] for each in CODEMETA["referencePublication"]} == studies
    assert {each["identifier"] for each in ZENODO["related_identifiers"]} == {*studies}
