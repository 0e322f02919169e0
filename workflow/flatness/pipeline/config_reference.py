"""What can be set in a config, for people and for editors: a page and a JSON schema.

Both are generated from the typed configuration and are in `config/`; a test compares them with it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from flatness.pipeline.config import Config
from flatness.records.files import atomic_path

DIALECT = "https://json-schema.org/draft/2020-12/schema"
HEAD = """\
# Configuration

`python -m flatness describe-config` generates this page and `schema.json` from the typed model of
the configuration. `demo.yaml`, `laptop.yaml` and `paper.yaml` are complete examples.

A run is `python -m flatness run config/mine.yaml`, or `snakemake --configfile config/mine.yaml`. A
config must be complete: no default file is merged into it. An unknown or missing key is an error
that names the key. Keys with a default may be left out.

Editors with a YAML language server complete and check keys if the config begins with

    # yaml-language-server: $schema=schema.json
"""
#: Bounds of a number, as shown on the page.
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def describe_config(
    folder: Annotated[Path, typer.Option(help="where both files are written")] = Path("config"),
) -> None:
    """Writes what can be set in a config: README.md and schema.json."""
    for name, text in (("README.md", config_page()), ("schema.json", config_schema())):
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf-8")


def config_schema() -> str:
    """The JSON schema of a config, as text."""
    schema = {"$schema": DIALECT} | Config.model_json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def config_page() -> str:
    """Every key of a config in Markdown: a table for each part, the whole first."""
    schema = Config.model_json_schema()
    parts = {"Config": schema} | {name: schema["$defs"][name] for name in _reached(schema)}
    return HEAD + "".join(_section(name, part) for name, part in parts.items())


def _reached(schema: Mapping[str, Any]) -> Iterator[str]:
    """Names of the parts in the order in which a reader of the config meets them."""
    waiting, seen = [schema], set()
    while waiting:
        for reference in _references(waiting.pop(0).get("properties", {})):
            if reference not in seen:
                seen.add(reference)
                waiting.append(schema["$defs"][reference])
                yield reference


def _references(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        if "$ref" in value:
            yield _part(value["$ref"])
        value = list(value.values())
    if isinstance(value, list):
        for inside in value:
            yield from _references(inside)


def _part(reference: str) -> str:
    return reference.rpartition("/")[2]


def _section(name: str, part: Mapping[str, Any]) -> str:
    required = part.get("required", [])
    rows = [
        (f"`{key}`", _type(field), "" if key in required else _default(field), field["description"])
        for key, field in part["properties"].items()
    ]
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
    table = "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *lines])
    return f"\n## {name}\n\n{part['description']}\n\n{table}\n"


def _default(field: Mapping[str, Any]) -> str:
    return f"`{json.dumps(field['default'])}`" if "default" in field else "empty"


def _type(field: Mapping[str, Any]) -> str:
    """The type of a field in words, with links to other parts."""
    if "$ref" in field:
        name = _part(field["$ref"])
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(map(_type, field["anyOf"]))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    if field["type"] == "object":
        return _mapping(field)
    bounds = [f"{sign} {field[key]:g}" for key, sign in BOUNDS.items() if key in field]
    pattern = f"matching `{field['pattern']}`" if "pattern" in field else ""
    return " ".join(filter(None, [field["type"], ", ".join(bounds), pattern]))


def _mapping(field: Mapping[str, Any]) -> str:
    # Values of names with a pattern are listed under the pattern.
    patterned = field.get("patternProperties", {})
    values = next(iter(patterned.values()), field.get("additionalProperties", True))
    keys = field.get("propertyNames", {}).get("enum", [])
    named = f" {', '.join(f'`{key}`' for key in keys)}" if keys else ""
    kind = _type(values) if isinstance(values, Mapping) else "anything"
    return f"mapping of names{named} to {kind}"
