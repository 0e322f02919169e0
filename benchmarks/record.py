"""Gathers the benchmarks' results into one file and into the table of docs/performance.md."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flatness.records.files import atomic_path
from flatness.records.machine import instruction_set, processor

PAGE = Path("docs/performance.md")
MARKS = "<!-- measured -->", "<!-- /measured -->"
Line = tuple[str, str, str]
Record = dict[str, Any]


def gather(folder: Path, output: Path) -> None:
    """Writes all results as one JSON, and their table into the page; what has none is kept."""
    kept = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    machine = {"processor": processor(), "instruction_set": instruction_set()}
    record = kept | {
        path.stem: json.loads(path.read_text(encoding="utf-8")) | machine
        for path in sorted(folder.glob("*.json"))
    }
    with atomic_path(output) as temporary:
        temporary.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    first, last = MARKS
    table = "\n".join([first, "", *table_lines(record), "", last])
    page = re.sub(
        f"{first}.*{last}", lambda _: table, PAGE.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    with atomic_path(PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")


def table_lines(record: Record) -> Iterator[str]:
    """The table in Markdown."""
    yield "| what | measured | target |"
    yield "|---|---|---|"
    machines = {
        f"{part['processor']}, {part['instruction_set']}"
        for part in record.values()
        if "instruction_set" in part
    }
    for machine in sorted(machines):
        yield f"| measured on | {machine} | |"
    for lines in (measures, peers, chen, gpu, epfl, transformers, workflow):
        for line in lines(record.get(lines.__name__, {})):
            yield f"| {' | '.join(line)} |"


def measures(record: Record) -> Iterator[Line]:
    for row in record.get("networks", []):
        loop, bare = row["ratio"], row["ratio_without_norms"]
        yield (
            f"all measures, {row['network']}, n = {row['samples']}: loop over ours",
            f"{spread(loop)} ({row['loop_s']:.2f} s, {1e3 * row['batched_s']:.0f} ms)",
            judged(row["targets"][0], loop["median"]),
        )
        yield (
            f"the same without weight norms, {row['network']}",
            f"{spread(bare)} ({1e3 * row['batched_without_norms_s']:.0f} ms)",
            judged(row["targets"][1], bare["median"]),
        )
    for row in record.get("growth", []):
        yield (
            f"S, MLS, NMLS, dimensionality of the MLP, n = {row['samples']:,}",
            f"{row['cpu_s']:.2f} s, {row['ms_per_sample']:.2f} ms a sample, "
            f"peak {row['peak_GB']:.2f} GB",
            "30 s, 2 GB" if row["samples"] == 60_000 else "",
        )
    for row in record.get("growth_with_outputs", []):
        yield f"all measures of the MLP, N = {row['outputs']}", f"{1e3 * row['cpu_s']:.0f} ms", ""


def peers(record: Record) -> Iterator[Line]:
    for row in record.get("rows", []):
        found = row["ratio"]
        yield (
            f"{row['what']}: {row['peer']} over ours",
            f"{found['median']:.2f}× [{found['low']:.2f}, {found['high']:.2f}] "
            f"({duration(row['theirs_s'])}, {duration(row['ours_s'])})",
            judged(round(row["target"], 2), row["ratio"]["median"]),
        )


def chen(record: Record) -> Iterator[Line]:
    for row in record.get("networks", []):
        yield (
            f"step of {row['network']}, batch 20, {row['execution']}: bare loop over library",
            f"{row['speed']:.2f}× [{row['speed_low']:.2f}, {row['speed_high']:.2f}] of "
            f"{row['turns']} turns ({row['library_ms']:.2f} ms; matrix products alone "
            f"{row['floor_ms']:.2f} ms at {record['gflop_per_s']:.0f} GFLOP/s)",
            judged(round(row["target"], 2), row["speed"]),
        )
        yield (
            f"measuring once over training, {row['network']}",
            f"{row['measuring_share']:.1%} ({row['measuring_s']:.2f} s)",
            "10 %",
        )
    if record:
        yield "start-up of a job", f"{record['startup_s']:.1f} core-seconds", ""
        yield "peak memory of training and measuring", f"{record['peak_mb']:.0f} MB", "2000 MB"


def gpu(record: Record) -> Iterator[Line]:
    for row in record.get("stacks", []):
        yield (
            f"{record['gpu']}, 100 {row['network']}: trained together over one by one",
            f"{row['ratio']:.0f}× ({row['stacked_steps_per_s']:,.0f} steps of a model a second)",
            judged(50, row["ratio"]) if row["network"] == "mlp" else "",
        )


def epfl(record: Record) -> Iterator[Line]:
    for pool, goals in (("fcnn", ("10 s", "1 min")), ("gat", ("45 s", "15 min"))):
        row = record.get(pool)
        if row:
            yield (
                f"{pool}: 50 models trained and measured, two cores",
                f"{row['two_core_seconds_per_50_models']:.1f} s "
                f"({row['loop_over_stacked']:.1f}× faster than one by one)",
                goals[0],
            )
            yield (
                f"{pool}: 1,000 models, two cores",
                f"{row['two_core_minutes_per_1000_models']:.1f} min",
                goals[1],
            )
    for name, seconds in record.get("fcnn_growth", {}).items():
        yield f"fcnn: {name.replace('_', ' ')}", f"{seconds:.1f} core-seconds", ""
    row = record.get("lenet5")
    if row:
        yield (
            "lenet5: step over bare channels-last loop",
            f"{row['ours_over_bare']:.2f} [{row['ours_over_bare_low']:.2f}, "
            f"{row['ours_over_bare_high']:.2f}] of {row['turns']} turns "
            f"({row['step_ms']:.1f} ms)",
            "1.05",
        )


def transformers(record: Record) -> Iterator[Line]:
    medians = record.get("medians")
    if medians:
        yield (
            "a small transformer, median: train, exact MLS, released MLS, sharpness",
            ", ".join(
                f"{medians[name]:.1f} s"
                for name in (
                    "train_seconds",
                    "exact_mls_seconds",
                    "released_mls_seconds",
                    "pairs_seconds",
                )
            ),
            "",
        )
        yield (
            "released MLS over exact MLS, median of models' medians",
            f"{medians['tightness_median']:.2f}",
            "",
        )


def workflow(record: Record) -> Iterator[Line]:
    if record:
        yield (
            f"`make figures`: {record['figures']} figures and the report",
            f"{record['everything_s']:.0f} s",
            "60 s" if record["everything_s"] <= 60 else "60 s: **missed**",
        )
        met = "5 s" if record["nothing_s"] <= 5 else "5 s: **missed**"
        yield "the same, nothing to do", f"{record['nothing_s']:.1f} s", met
        yield "the same, one figure", f"{record['one_figure_s']:.1f} s", ""


def judged(target: float, found: float) -> str:
    """A target for a ratio that should be large, and whether it is met."""
    return f"{target:g}" if found >= target else f"{target:g}: **missed**"


def duration(seconds: float) -> str:
    """Such as "2.1 s" or "35 ms"."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1e3 * seconds:.0f} ms"


def spread(ratio: dict[str, float]) -> str:
    """Such as "7.1× [6.9, 7.4]"."""
    return f"{ratio['median']:.1f}× [{ratio['low']:.1f}, {ratio['high']:.1f}]"
