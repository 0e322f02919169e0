"""The paths of a run's files below `results/<config>`, all defined here.

The rules use these paths, with wildcards in braces, for their files; `files` finds the files.
"""

import re
from pathlib import Path

#: Folders of the stages.
CHECKPOINTS, MEASUREMENTS, CORRELATIONS = "checkpoints", "measurements", "correlations"

# Blocks: weights, a table of their training, and a table of measurements.
EPFL_WEIGHTS = "checkpoints/epfl/{pool}/{trained}/{block}.safetensors"
EPFL_TRAINED = "checkpoints/epfl/{pool}/{trained}/{block}.csv"
EPFL_MEASURED = "measurements/epfl/{pool}/{trained}/{measured}/{block}.csv"
CHEN_WEIGHTS = "checkpoints/chen/{family}/{setting}/{block}.safetensors"
CHEN_TRAJECTORY = "checkpoints/chen/{family}/{setting}/{block}.trajectory.safetensors"
CHEN_TRAINED = "checkpoints/chen/{family}/{setting}/{block}.csv"
CHEN_MEASURED = "measurements/chen/{family}/{setting}/{block}.csv"
VIT_WEIGHTS = "checkpoints/transformers/{block}.safetensors"
VIT_TRAINED = "checkpoints/transformers/{block}.csv"
VIT_MEASURED = "measurements/transformers/{block}.csv"
FACTORIAL_MEASURED = "measurements/factorial/{pool}/{block}.csv"
CROSS_EPFL_MEASURED = "measurements/cross/epfl/{pool}/{trained}/{block}.csv"
CROSS_CHEN_MEASURED = "measurements/cross/chen/{family}/{setting}/{block}.csv"

# Statistics over blocks.
POOL_MODELS = "correlations/epfl/{pool}/{trained}/{measured}/models.csv"
POOL_CORRELATIONS = "correlations/epfl/{pool}/{trained}/{measured}/correlations.csv"
POOL_RANGES = "correlations/epfl/{pool}/{trained}/{measured}/ranges.csv"
REPLICATED_MODELS = "correlations/replications/{pool}/{trained}/{measured}/models.csv"
REPLICATIONS = "correlations/replications/{pool}/{trained}/{measured}/replications.csv"
DISTRIBUTION = "correlations/replications/{pool}/{trained}/{measured}/distribution.csv"
AUDITED_MODELS = "correlations/audit/{pool}/models.csv"
AUDIT = "correlations/audit/{pool}/audit.csv"
AUDITED_SOURCE = "correlations/audit/{pool}/released_against_source.csv"
CHEN_CHECKPOINTS = "correlations/chen/{family}/checkpoints.csv"
CHEN_CORRELATIONS = "correlations/chen/{family}/correlations.csv"
BOUNDS = "correlations/chen/{family}/bounds.csv"
CONTRASTS = "correlations/chen/{family}/contrasts.csv"
EFFECTS = "correlations/chen/{family}/effects.csv"
CHANGES = "correlations/chen/{family}/changes.csv"
SCALE = "correlations/scale/{scale}.csv"
VIT_MODELS = "correlations/transformers/models.csv"
VIT_CORRELATIONS = "correlations/transformers/correlations.csv"
FACTORIAL_CELLS = "correlations/factorial/{pool}/cells.csv"
FACTORIAL_EFFECTS = "correlations/factorial/{pool}/effects.csv"
CROSS_MODELS = "correlations/cross/models.csv"
CROSS_CORRELATIONS = "correlations/cross/correlations.csv"

# Files for readers.
PICTURE = "figures/{figure}.png"
DRAWING = "figures/{figure}.svg"
LEDGER = "report/claims.csv"
DICTIONARY = "report/data_dictionary.csv"
PAGE = "report.html"
EXPLORABLE = "explore.html"
NOTEBOOK = "notebooks/{paper}.html"

# Files about the run. A job's name may contain folders.
MANIFEST = "manifest.json"
LOGS, BENCHMARKS = "logs", "benchmarks"
LOG = f"{LOGS}/{{job}}.log"
BENCHMARK = f"{BENCHMARKS}/{{job}}.tsv"


def results_of(name: str) -> Path:
    """The folder of a configuration's results."""
    return Path("results") / name


def glob(pattern: str, **known: str) -> str:
    """Turns a path with wildcards into a pattern of file names.

    Args:
        pattern: one of this module.
        **known: values of wildcards; the others match anything.

    Returns:
        The pattern, for `Path.glob`.
    """
    others = {"job": "**/*"}
    return re.sub(r"{(\w+)}", lambda name: (others | known).get(name[1], "*"), pattern)


def files(results: Path, pattern: str, **known: str) -> list[Path]:
    """Finds a run's files of one kind.

    Args:
        results: folder of one config.
        pattern: one of this module.
        **known: values of wildcards; the others match anything.

    Returns:
        Their paths, sorted.
    """
    return sorted(results.glob(glob(pattern, **known)))


def tables(results: Path, stage: str) -> list[Path]:
    """All tables of a stage, sorted."""
    return files(results, f"{stage}/{{job}}.csv")


def job_of(results: Path, benchmark: Path) -> tuple[str, ...]:
    """The folders that name the job of a benchmark file: stage, study and further ones."""
    return benchmark.relative_to(results / BENCHMARKS).parts[:-1]
