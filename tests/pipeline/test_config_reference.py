"""The page and the schema beside the configs, against the typed configuration."""

import json

import pytest
from jsonschema import Draft202012Validator

from checkout import ROOT, shipped
from flatness.pipeline.config_reference import config_page, config_schema

SCHEMA = json.loads(config_schema())
PARTS = {"Config": SCHEMA} | SCHEMA["$defs"]


def test_both_files_are_as_the_configuration_says():
    """If this fails: `python -m flatness describe-config`."""
    assert (ROOT / "config/README.md").read_text(encoding="utf-8") == config_page()
    assert (ROOT / "config/schema.json").read_text(encoding="utf-8") == config_schema()


@pytest.mark.parametrize("part", PARTS)
def test_every_key_is_described(part):
    keys = PARTS[part]["properties"]
    assert [key for key, field in keys.items() if not field.get("description")] == []


def test_the_page_has_every_part_and_every_key():
    page = config_page()
    for name, part in PARTS.items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for key in part["properties"]:
            assert f"| `{key}` |" in section


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_schema_takes_what_is_shipped_and_no_other_keys(path):
    validator = Draft202012Validator(SCHEMA)
    values = shipped(path.stem)
    assert list(validator.iter_errors(values)) == []
    values["statistics"]["resample"] = 3
    assert len(list(validator.iter_errors(values))) == 1
