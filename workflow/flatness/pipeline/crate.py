"""The machine-readable description of an archive: a Workflow Run RO-Crate.

RO-Crate 1.1 with the profile Workflow Run Crate 0.5 (https://w3id.org/ro/wfrun/workflow/0.5): which
workflow ran, on which settings and data, when, by whose code, with which software, what came out.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from rocrate.model import ContextEntity
from rocrate.rocrate import ROCrate

from flatness.pipeline.manifest import Manifest
from flatness.records import layout

METADATA = "ro-crate-metadata.json"
#: Paths of the settings and the workflow in an archive.
SETTINGS, WORKFLOW = "config.yaml", "workflow/Snakefile"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
LICENSE = "https://spdx.org/licenses/"
#: The packages on which results depend most; the manifest has all.
SOFTWARE = {
    "torch": "https://pytorch.org",
    "numpy": "https://numpy.org",
    "scipy": "https://scipy.org",
    "snakemake": "https://snakemake.github.io",
    "python": "https://www.python.org",
}
WORKFLOW_PROFILE = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".png": "image/png",
    ".safetensors": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".tsv": "text/tab-separated-values",
    ".yaml": "application/yaml",
}


def run_crate(manifest: Manifest, results: Iterable[str], others: Iterable[str], cff: Path) -> str:
    """Describes an archived run.

    Args:
        manifest: of the run.
        results: paths of the results in the archive.
        others: of the files that describe the environment.
        cff: CITATION.cff, for title, authors and license.

    Returns:
        The text of ro-crate-metadata.json.
    """
    cited = yaml.safe_load(cff.read_text(encoding="utf-8"))
    crate = ROCrate(version="1.1")
    start, end = _span(manifest)
    license_page = LICENSE + cited["license"]
    _context(crate, license_page, "CreativeWork", name=cited["license"], identifier=license_page)
    crate.name = f"Run of {cited['title']}: configuration {manifest.name}"
    crate.description = (
        f"Tables, figures, reports and weights of the configuration {manifest.name}, computed by "
        f"commit {manifest.commit}, with the settings and the versions that made them"
    )
    crate.license = crate.get(license_page)
    crate.datePublished = _time(max(file.modified_ns for file in manifest.files.values()) / 1e9)
    found = [_author(crate, author) for author in cited["authors"]]
    authors = found if len(found) > 1 else found[0]
    crate.root_dataset["author"] = authors
    for page, (name, version) in PROFILES.items():
        profile = _context(crate, page, "CreativeWork", name=name, version=version)
        crate.root_dataset.append_to("conformsTo", profile)
    for path in others:
        _file(crate, path, name=path)
    crate.get("README.md")["about"] = crate.root_dataset
    action = {"name": f"Run of configuration {manifest.name}", "agent": authors}
    action["description"] = crate.description
    action |= {name: time for name, time in (("startTime", start), ("endTime", end)) if time}
    crate.root_dataset["mentions"] = crate.add_action(
        _workflow(crate, manifest, cited, authors),
        "#run",
        object=[_settings(crate, manifest), *_data(crate, manifest)],
        result=_results(crate, manifest, results),
        properties=action,
    )
    return json.dumps(crate.metadata.generate(), indent=2, ensure_ascii=False)


def _workflow(
    crate: ROCrate, manifest: Manifest, cited: dict[str, Any], authors: Any
) -> ContextEntity:
    """The workflow with its parameters and the software it ran with."""
    versions = {"python": manifest.python} | manifest.packages
    software = [
        _context(
            crate, page, "SoftwareApplication", name=name, url=page, softwareVersion=versions[name]
        )
        for name, page in SOFTWARE.items()
        if name in versions
    ]
    workflow = crate.add_workflow(
        dest_path=WORKFLOW,
        main=True,
        lang="snakemake",
        lang_version=versions.get("snakemake"),
        properties={"name": cited["title"], "version": cited["version"]},
    )
    workflow["identifier"] = f"commit {manifest.commit}" + " and changed since" * manifest.dirty
    workflow["author"], workflow["license"] = authors, crate.license
    workflow["conformsTo"] = {"@id": WORKFLOW_PROFILE}
    workflow["encodingFormat"] = "text/plain"
    workflow["softwareRequirements"] = software
    workflow["input"] = crate.add_formal_parameter("settings", "File", "#settings")
    workflow["output"] = crate.add_formal_parameter("results", "Dataset", "#results")
    crate.add_dataset(dest_path="workflow/", properties={"name": "rules and library"})
    return workflow


def _settings(crate: ROCrate, manifest: Manifest) -> ContextEntity:
    file = _file(crate, SETTINGS, name=f"settings of configuration {manifest.name}")
    file["exampleOfWork"] = crate.get("#settings")
    return file


def _data(crate: ROCrate, manifest: Manifest) -> list[ContextEntity]:
    """The data sets: only their checksums, since the files are not included."""
    return [
        _context(
            crate, f"#{path}", "CreativeWork", name=Path(path).stem,
            identifier=f"sha256:{file.sha256}",
            description="data set in the form that the workflow's rule `fetch` gives it",
        )
        for path, file in manifest.files.items()
        if path.startswith("data/") and file.sha256
    ]  # fmt: skip


def _results(crate: ROCrate, manifest: Manifest, paths: Iterable[str]) -> list[ContextEntity]:
    """Every result with its checksum, and their folder."""
    folder = crate.add_dataset(
        dest_path=f"{layout.results_of(manifest.name)}/",
        properties={"name": f"results of configuration {manifest.name}"},
    )
    folder["exampleOfWork"] = crate.get("#results")
    known = {path: {"sha256": file.sha256} for path, file in manifest.files.items()}
    files = [_file(crate, path, name=Path(path).name, **known.get(path, {})) for path in paths]
    folder["hasPart"] = files
    return [folder, *files]


def _file(crate: ROCrate, path: str, **properties: str) -> ContextEntity:
    kind = {"encodingFormat": FORMATS.get(Path(path).suffix, "text/plain")}
    return crate.add_file(dest_path=path, properties=properties | kind)


def _author(crate: ROCrate, author: dict[str, str]) -> ContextEntity:
    """One of CITATION.cff's authors: a person has given names."""
    if "given-names" not in author:
        name = author["name"]
        return _context(crate, f"#{name}", "Organization", name=name)
    name = f"{author['given-names']} {author['family-names']}"
    return _context(crate, author.get("orcid", f"#{name}"), "Person", name=name)


def _context(crate: ROCrate, name: str, kind: str, /, **properties: str) -> ContextEntity:
    entity = ContextEntity(crate, name.replace(" ", "-"), {"@type": kind, **properties})
    return crate.add(entity)


def _span(manifest: Manifest) -> tuple[str, str]:
    """When the first job began and the last one ended; empty if no job was recorded."""
    records = [file.record for file in manifest.files.values()]
    starts = [record["starttime"] for record in records if "starttime" in record]
    ends = [record["endtime"] for record in records if "endtime" in record]
    return _time(min(starts, default=0)), _time(max(ends, default=0))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""
